//! The contract, against real Unix sockets.
