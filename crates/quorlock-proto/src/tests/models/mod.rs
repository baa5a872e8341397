//! Models: every state that the shipped machines can reach, within bounds.

mod bounds;
mod canon;
mod events;
mod machines;
mod model;
mod mutants;
mod names;
mod node;
mod print;
mod runs;
mod search;
mod state;
mod world;
