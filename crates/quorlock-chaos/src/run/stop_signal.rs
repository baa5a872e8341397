//! A sleep that another thread can end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A signal to stop: once it is set, every sleep returns at once.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    pub(super) fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for this long, or until the signal is set.
    pub(super) fn sleep(&self, duration: Duration) {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_set, duration, |is_set| !*is_set));
    }
}
