//! The client processes: each has several tasks that take locks on a few keys, work under them, and record every step,
//! one line each, on standard output.

mod event_writer;
mod spec;
mod store;
mod task;

use std::io::{self, BufRead as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use quorlock::{Event, Redlock};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use spec::{ClientCommand, Spec};

use crate::history::{self, EventKind, NodeView};
use event_writer::EventWriter;
use store::Stores;
use task::Task;

/// Runs a client process: reads commands from standard input, executes them, and ends when the input does.
///
/// # Errors
///
/// A message, if it cannot begin. Later errors are recorded as events.
pub async fn client() -> Result<(), String> {
    let mut orders = read_orders();
    let Some(ClientCommand::Begin(spec)) = orders.recv().await else {
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
        .map(|number| {
            let task =
                Task::new(Arc::clone(&spec), redlock.clone(), Arc::clone(&stores), number, stop.clone());
            tokio::spawn(task.run())
        })
        .collect();
    while let Some(order) = orders.recv().await {
        match order {
            // The whole runtime stands still, and so does every lock that no thread of its own renews.
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

fn connect(spec: &Spec) -> Result<Redlock, String> {
    let builder = Redlock::builder()
        .nodes(&spec.urls)
        .max_clock_drift(spec.drift)
        .reply_timeout(Duration::from_millis(spec.reply_timeout_ms))
        .client_name(format!("chaos-{}", spec.process));
    let builder = if spec.is_fenced {
        builder.max_ttl(Duration::from_millis(spec.max_ttl_ms))
    } else {
        builder.plain()
    };
    let builder = if spec.has_thread { builder.dedicated_thread() } else { builder };
    let writer = EventWriter::new(spec.process, 0);
    let urls = spec.urls.clone();
    let observed = builder.observer(move |event: &Event<'_>| {
        if let Some(what) = node_view_change(&urls, event) {
            writer.write(what);
        }
    });
    observed.connect_lazy().map_err(|error| error.to_string())
}

/// The view of a node, when it changes.
fn node_view_change(urls: &[String], event: &Event<'_>) -> Option<EventKind> {
    let (address, stand) = match event {
        Event::NodeUp { node, .. } => (node, NodeView::Up),
        Event::NodeDown { node, .. } => (node, NodeView::Down),
        Event::NodeExcluded { node, .. } => (node, NodeView::Excluded),
        Event::NodeOnProbation { node, remaining, .. } => {
            (node, NodeView::OnProbation { until: history::now() + remaining.as_nanos() as u64 })
        }
        _ => return None,
    };
    let node = urls.iter().position(|url| url.ends_with(address))?;
    Some(EventKind::NodeViewChanged { node, view: stand })
}

/// Records when the machine gave this process no CPU time, so that no violation is reported for that. It has a thread
/// of its own, because a fault may block the runtime.
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

/// Commands, read by a thread: standard input cannot be awaited.
fn read_orders() -> mpsc::UnboundedReceiver<ClientCommand> {
    let (sender, orders) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Some(order) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
            if sender.send(order).is_err() {
                break;
            }
        }
    });
    orders
}

const STALL_CHECK_INTERVAL: Duration = Duration::from_millis(20);
const MIN_STALL: Duration = Duration::from_millis(50);
/// For pending releases.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
