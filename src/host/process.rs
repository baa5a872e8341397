//! The only reader of the process id.

/// The id of this process. In the child of a fork it differs from the id that the parent stored.
///
/// A system call of about 100 ns. Without unsafe code there is no cheaper way to detect a fork.
pub(crate) fn id() -> u32 {
    std::process::id()
}
