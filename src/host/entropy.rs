//! The only reader of randomness.

use rand::TryRng;
use rand::rngs::SysRng;
use uuid::Builder;

use quorlock_proto::request::OwnerToken;

/// A token that no other client has or can guess: 122 bits from the operating system, drawn by each call.
///
/// The kernel is asked each time. A generator kept in this process would give the same tokens on both sides of a
/// fork or of a cloned virtual machine.
pub(crate) fn token() -> OwnerToken {
    let mut bytes = [0; 16];
    // Without randomness no lock is safe; there is nothing to fall back to.
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    OwnerToken::new(Builder::from_random_bytes(bytes).into_uuid().as_u128())
}

/// 128 random bits that are unique and no secret: a fencing token's nonce, a cluster's id.
pub(crate) fn nonce() -> u128 {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    u128::from_ne_bytes(bytes)
}

/// A number for jitter. Predictability does no harm here, so the thread's generator will do.
pub(crate) fn jitter() -> u64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::token;

    #[test]
    fn tokens_do_not_repeat() {
        let tokens: HashSet<_> = (0..1000).map(|_| token()).collect();
        assert_eq!(tokens.len(), 1000);
    }
}
