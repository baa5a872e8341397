//! The client processes. Each has several tasks that acquire locks on a few keys, write under them, and
//! record every event as one line on standard output.

mod event_writer;
mod spec;
mod store;
mod task;

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quorlock::Redlock;
use quorlock::event::Event;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use spec::{ClientCommand, ClientSpec};

use crate::history::{self, EventKind, NodeView};
use event_writer::EventWriter;
use store::Stores;
use task::Task;

/// Runs a client process: executes commands from standard input, and ends with the input.
///
/// # Errors
///
/// A message, if it cannot start. Later errors are recorded as events.
pub async fn client() -> Result<(), String> {
    let mut commands = read_commands();
    let Some(ClientCommand::Begin(spec)) = commands.recv().await else {
        return Err("a client of a chaos run needs a begin command on its standard input".to_owned());
    };
    event_writer::report_panics(spec.process);
    report_stalls(EventWriter::new(spec.process, 0));
    let spec = Arc::new(*spec);
    let stores = Stores::open(&spec.stores, &spec.keys).map_err(|error| format!("no stores: {error}"))?;
    let stores = Arc::new(stores);
    let redlock = connect(&spec)?;
    let stop = CancellationToken::new();
    let tasks: Vec<_> = (0..spec.tasks)
        .map(|task_number| {
            let task =
                Task::new(Arc::clone(&spec), redlock.clone(), Arc::clone(&stores), task_number, stop.clone());
            tokio::spawn(task.run())
        })
        .collect();
    while let Some(command) = commands.recv().await {
        match command {
            // Blocks the whole runtime, including renewals, unless the client has a dedicated thread.
            ClientCommand::Block { millis } => thread::sleep(Duration::from_millis(millis)),
            ClientCommand::Begin(_) => {}
        }
    }
    stop.cancel();
    for task in tasks {
        // A panic has been recorded by the panic hook.
        let _ = task.await;
    }
    // Pending releases on unreachable nodes remain until the keys expire.
    let _ = redlock.shutdown(SHUTDOWN_TIMEOUT).await;
    Ok(())
}

fn connect(spec: &ClientSpec) -> Result<Redlock, String> {
    let builder = Redlock::builder()
        .nodes(&spec.urls)
        .node_names(&spec.node_names)
        .max_clock_drift(spec.drift)
        .reply_timeout(Duration::from_millis(spec.reply_timeout_ms))
        .client_name(format!("chaos-{}", spec.process));
    let builder = if spec.is_fenced {
        builder.max_ttl(Duration::from_millis(spec.max_ttl_ms))
    } else {
        builder.mode(quorlock::Mode::Plain)
    };
    let builder = if spec.has_thread { builder.dedicated_thread(true) } else { builder };
    let writer = EventWriter::new(spec.process, 0);
    let urls = spec.urls.clone();
    let observed = builder.on_event(move |event| {
        if let Some(kind) = node_view_change(&urls, event) {
            writer.write(kind);
        }
    });
    observed.connect_lazy().map_err(|error| error.to_string())
}

/// The new view of a node, if the event changes it.
fn node_view_change(urls: &[String], event: &Event) -> Option<EventKind> {
    let (address, view) = match event {
        Event::NodeUp { node, .. } => (node, NodeView::Up),
        Event::NodeDown { node, .. } => (node, NodeView::Down),
        Event::NodeExcluded { node, .. } => (node, NodeView::Excluded),
        Event::NodeOnProbation { node, remaining, .. } => {
            (node, NodeView::OnProbation { until: history::now() + remaining.as_nanos() as u64 })
        }
        _ => return None,
    };
    let node = urls.iter().position(|url| url.ends_with(&**address))?;
    Some(EventKind::NodeViewChanged { node, view })
}

/// Records when the machine gave this process no CPU time, so that the checker reports no violation for that.
/// It runs on its own thread, because a fault may block the runtime.
fn report_stalls(writer: EventWriter) {
    thread::spawn(move || {
        loop {
            let before = history::now();
            thread::sleep(STALL_CHECK_INTERVAL);
            let late = Duration::from_nanos(history::now() - before).saturating_sub(STALL_CHECK_INTERVAL);
            if late >= MIN_STALL {
                writer.write(EventKind::RuntimeStalled { millis: late.as_millis() as u64 });
            }
        }
    });
}

/// Reads commands on a thread, because standard input cannot be awaited.
fn read_commands() -> mpsc::UnboundedReceiver<ClientCommand> {
    let (sender, commands) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Some(command) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
            if sender.send(command).is_err() {
                break;
            }
        }
    });
    commands
}

const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(20);
const MIN_STALL: Duration = Duration::from_millis(50);
/// The time for pending releases.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
