//! A sleep that another thread can end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Once it is called, every sleep ends at once.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    is_called: Mutex<bool>,
    changed: Condvar,
}

impl StopSignal {
    pub(super) fn set(&self) {
        *self.is_called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    pub(super) fn is_set(&self) -> bool {
        *self.is_called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for this long, unless it is called before.
    pub(super) fn sleep(&self, span: Duration) {
        let is_called = self.is_called.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_timeout_while(is_called, span, |is_called| !*is_called));
    }
}
