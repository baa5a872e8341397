//! A sleep that somebody can end.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Once it is called, nobody sleeps any more.
#[derive(Debug, Default)]
pub(super) struct StopSignal {
    is_called: Mutex<bool>,
    told: Condvar,
}

impl StopSignal {
    pub(super) fn call(&self) {
        *self.is_called.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.told.notify_all();
    }

    pub(super) fn is_called(&self) -> bool {
        *self.is_called.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps for so long, unless it is called before.
    pub(super) fn sleep(&self, span: Duration) {
        let is_called = self.is_called.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_timeout_while(is_called, span, |is_called| !*is_called));
    }
}
