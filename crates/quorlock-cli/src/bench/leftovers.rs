//! Whether anything of ours is left on the nodes; and what is remembered of our names is forgotten.

use std::time::Duration;

use quorlock::{Builder, Holder, InspectError, Vote};
use serde::Serialize;
use tokio::task::JoinSet;

use super::setting::Setting;
use crate::exit::{self, Failure};

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Leftovers {
    /// Our keys that are still there, each with its node.
    pub(super) keys: Vec<String>,
    /// Nodes that could not be asked.
    pub(super) unasked: Vec<String>,
    /// Fencing numbers of our names on each node.
    pub(super) fences: usize,
    /// Within how many seconds these are gone.
    pub(super) fences_expire_in_seconds: u64,
}

/// Asks every node for every name that was used.
pub(super) async fn look(builder: Builder, setting: &Setting) -> Result<Leftovers, Failure> {
    let redlock = builder.look_only().lazy()?;
    redlock.nodes().await;
    let names = (0..setting.keys).map(|key| setting.name(key)).chain([format!("{}:probe", setting.prefix)]);
    let mut asking = JoinSet::new();
    for name in names {
        let redlock = redlock.clone();
        asking.spawn(async move {
            let seen = redlock.inspect(&name).await?;
            // Plain clients have nothing to forget. What is left is told by the look.
            let _ = redlock.forget(&name).await;
            Ok::<_, InspectError>((name, seen))
        });
    }
    let mut found = Leftovers {
        fences: setting.longest_ttl.map_or(0, |_| setting.keys),
        fences_expire_in_seconds: setting.longest_ttl.map_or(0, |longest| longest.as_secs() + 1),
        ..Leftovers::default()
    };
    while let Some(asked) = asking.join_next().await {
        let asked = asked.map_err(|error| Failure::new(exit::SOFTWARE, error.to_string()))?;
        let (name, seen) = asked?;
        for sight in seen.nodes {
            match sight.vote {
                Vote::Seen(it) if it.holder == Holder::Nobody => {}
                Vote::Seen(_) => found.keys.push(format!("{name} on {}", sight.node)),
                _ if found.unasked.contains(&sight.node) => {}
                _ => found.unasked.push(sight.node),
            }
        }
    }
    found.keys.sort_unstable();
    found.unasked.sort_unstable();
    let _ = redlock.shutdown(DRAIN).await;
    Ok(found)
}

const DRAIN: Duration = Duration::from_secs(1);
