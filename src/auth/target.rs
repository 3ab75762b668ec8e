//! The request target: what a path may look like.

/// The rule that a request target broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than the limit.
    #[error("it is longer than 4096 bytes")]
    TooLong,
}
