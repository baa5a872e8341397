//! The only source of randomness.

use rand::TryRng;
use rand::rngs::SysRng;
use uuid::Builder;

use quorlock_proto::request::OwnerToken;

/// A unique and unguessable owner token: 122 random bits from the operating system.
///
/// Each call reads from the kernel. A generator in this process would return the same tokens in parent and
/// child of a fork, and in a cloned virtual machine.
pub(crate) fn owner_token() -> OwnerToken {
    let mut bytes = [0; 16];
    // Without randomness no lock is safe, so there is no fallback.
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    OwnerToken::new(Builder::from_random_bytes(bytes).into_uuid().as_u128())
}

/// 128 unique random bits that are no secret: a fencing token's nonce, or a lock cluster's id.
pub(crate) fn nonce() -> u128 {
    let mut bytes = [0; 16];
    SysRng.try_fill_bytes(&mut bytes).expect("the operating system has randomness");
    u128::from_ne_bytes(bytes)
}

/// A random number for jitter. It may be predictable, so the thread's generator suffices.
pub(crate) fn jitter() -> u64 {
    rand::random()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::owner_token;

    #[test]
    fn tokens_do_not_repeat() {
        let tokens: HashSet<_> = (0..1000).map(|_| owner_token()).collect();
        assert_eq!(tokens.len(), 1000);
    }
}
