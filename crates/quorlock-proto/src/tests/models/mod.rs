//! Exhaustive models: every state that the shipped attempts and leases can reach within bounds.

mod adoption;
mod apply;
mod bounds;
mod canonical;
mod hashers;
mod lock_model;
mod mutants;
mod node;
mod operations;
mod reductions;
mod roster;
mod runs;
mod search;
mod state;
mod transitions;
