//! Why a gateway did not start.

/// Why a gateway did not start. No listener is bound.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The registry or a TLS file has a mistake; the text names the file and the mistake.
    #[error("{0}")]
    Configuration(String),
    /// The system refused something (an address, a file); the text names it.
    #[error("{0}")]
    System(String),
}
