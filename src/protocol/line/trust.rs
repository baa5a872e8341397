//! Whether the node with a line is right when it calls the key free.

/// How far the node with the line is believed when it calls the key free. Every vain attempt that its word leads to may
/// keep the holder from taking the key again there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// How often in a row the key was called free, and then refused by a quorum.
    free_in_vain: u8,
    /// Whether we stand in line on the next node instead.
    is_aside: bool,
}

/// What to do when the key is called free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Try at once.
    Believe,
    /// Try after a pause. Votes that are split now and then are no matter; where they are every time, chance must help.
    Hesitate,
    /// Stand in line on the other node: this one lacks the holder's key.
    StepAside,
}

impl Trust {
    /// Whether we stand in line on the next node.
    #[must_use]
    pub const fn is_aside(self) -> bool {
        self.is_aside
    }

    /// A wait has ended, because the key was called free or for another reason.
    pub fn on_end_of_wait(&mut self, is_free: bool) -> Reaction {
        self.free_in_vain = if is_free { self.free_in_vain + 1 } else { 0 };
        if self.free_in_vain > MOST_IN_VAIN {
            // The other node is not believed at once either: where votes are split, chance must go on to help.
            *self = Self { free_in_vain: BELIEVED, is_aside: !self.is_aside };
            return Reaction::StepAside;
        }
        if self.free_in_vain > BELIEVED { Reaction::Hesitate } else { Reaction::Believe }
    }
}

/// How often in a row a node is believed at once that calls the key free, and how often at all.
const BELIEVED: u8 = 2;
const MOST_IN_VAIN: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_calls_free_what_a_quorum_refuses_is_left_for_the_other_and_that_one_likewise() {
        let mut trust = Trust::default();
        assert_eq!([(); 2].map(|()| trust.on_end_of_wait(true)), [Reaction::Believe; 2]);
        for is_aside in [false, true, false] {
            assert_eq!(trust.is_aside(), is_aside);
            assert_eq!([(); 2].map(|()| trust.on_end_of_wait(true)), [Reaction::Hesitate; 2]);
            assert_eq!(trust.on_end_of_wait(true), Reaction::StepAside);
        }
        trust.on_end_of_wait(false);
        trust.on_end_of_wait(true);
        trust.on_end_of_wait(true);
        assert_eq!(trust.on_end_of_wait(false), Reaction::Believe, "called, or told to wait");
        assert_eq!(trust.on_end_of_wait(true), Reaction::Believe);
    }
}
