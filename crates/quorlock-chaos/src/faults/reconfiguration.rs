//! Exchanges a node of the lock cluster for another server, while clients lock.

use std::thread;
use std::time::Duration;

use quorlock::Redlock;
use quorlock::reconfiguration::Reconfiguration;
use tokio::time::timeout;

/// Reconfigures the lock cluster from one list of URLs to another. If it is interrupted, it is run again.
pub(super) fn exchange(
    before: &[String],
    after: &[String],
    interrupted_after: Option<Duration>,
) -> Result<(), String> {
    let reconfiguration = || -> Reconfiguration {
        Redlock::builder().nodes(before).connect_timeout(TIMEOUT).reconfigure(after)
    };
    let runs = async {
        if let Some(after) = interrupted_after {
            // The future is dropped, as if its process had been killed. It may also have ended before.
            let _ = timeout(after, reconfiguration().run()).await;
        }
        match timeout(TIMEOUT, reconfiguration().run()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it has not ended within {TIMEOUT:?}")),
        }
    };
    // On its own thread, because a runtime cannot be started inside another.
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(|error| error.to_string())?.block_on(runs)
        });
        run.join().expect("no panic")
    })
}

/// Far more than the probations, even while other faults delay them.
const TIMEOUT: Duration = Duration::from_secs(60);
