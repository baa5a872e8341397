//! What clients do: processes of their own, with several tasks each, that take locks on a few keys, work under them,
//! and tell all of it, one line a time, on their standard output.

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

pub(crate) use spec::{Order, Spec};

use crate::history::{self, EventKind, NodeView};
use event_writer::EventWriter;
use store::Stores;
use task::Task;

/// A client process: reads what it is to do from its standard input, does it, and ends when the input does.
///
/// # Errors
///
/// In words, if it cannot begin. What goes wrong later is told as an event.
pub async fn client() -> Result<(), String> {
    let mut orders = listen();
    let Some(Order::Begin(spec)) = orders.recv().await else {
        return Err("a client of a chaos run is told what to do on its standard input".to_owned());
    };
    event_writer::tell_panics(spec.process);
    tell_oversleeping(EventWriter::new(spec.process, 0));
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
            // The whole runtime stands still, and every lock with it that is not renewed by a thread of its own.
            Order::Block { millis } => thread::sleep(Duration::from_millis(millis)),
            Order::Begin(_) => {}
        }
    }
    stop.cancel();
    for task in tasks {
        // A panic was told by the one that panicked.
        let _ = task.await;
    }
    // What nodes that are away are owed then stands until it expires.
    let _ = redlock.shutdown(GOODBYE).await;
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
    let teller = EventWriter::new(spec.process, 0);
    let urls = spec.urls.clone();
    let observed = builder.observer(move |event: &Event<'_>| {
        if let Some(what) = seen(&urls, event) {
            teller.tell(what);
        }
    });
    observed.connect_lazy().map_err(|error| error.to_string())
}

/// How a node is seen, when that changes.
fn seen(urls: &[String], event: &Event<'_>) -> Option<EventKind> {
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

/// Tells when the machine had no time for this process, so that nobody is blamed for that. A thread of its own, for the
/// runtime may stand still by our fault.
fn tell_oversleeping(teller: EventWriter) {
    thread::spawn(move || {
        loop {
            let before = history::now();
            thread::sleep(NAP);
            let late = Duration::from_nanos(history::now() - before).saturating_sub(NAP);
            if late >= OVERSLEPT {
                teller.tell(EventKind::Overslept { millis: late.as_millis() as u64 });
            }
        }
    });
}

/// Orders, read by a thread: standard input cannot be awaited.
fn listen() -> mpsc::UnboundedReceiver<Order> {
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

const NAP: Duration = Duration::from_millis(20);
const OVERSLEPT: Duration = Duration::from_millis(50);
/// For what is still owed to the nodes.
const GOODBYE: Duration = Duration::from_secs(1);
