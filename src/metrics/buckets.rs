//! Where the histograms' buckets end, and why there.

/// Seconds. One strict verification is about 20 us (AVX-512) or 32 us (AVX2), so the buckets are
/// close there; a machine with several keys multiplies it; hashing a large body reaches
/// milliseconds, and what lies above 10 ms is a starved CPU.
pub(super) const VERIFY_BUCKETS: [f64; 12] = [
    0.00001, 0.00002, 0.00003, 0.00004, 0.00006, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01,
];

/// Seconds, from a backend on the same machine to the longest deadline anyone sets.
pub(super) const UPSTREAM_BUCKETS: [f64; 15] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Seconds. A backend in the same network verifies an assertion and stores a token within a few
/// milliseconds; a login is given up after five seconds.
pub(super) const LOGIN_BUCKETS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];

/// Seconds. A store in the same network answers within a millisecond; its deadline is 50 ms by
/// default and 5 s at most.
pub(super) const STORE_BUCKETS: [f64; 12] = [
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0,
];

/// Seconds, both ways, to the ends of the default window of five minutes. Timestamps are whole
/// seconds, so that 0 and 1 are what a right clock shows.
pub(super) const SKEW_BUCKETS: [f64; 17] = [
    -300.0, -120.0, -60.0, -30.0, -10.0, -5.0, -2.0, -1.0, 0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0,
];
