//! What the benches share.

pub mod by_hand;
pub mod figures;
pub mod machine;

use std::error::Error;

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
