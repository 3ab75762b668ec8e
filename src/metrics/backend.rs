//! Which arithmetic verifies signatures: it decides how fast the gateway is, it is chosen partly
//! at build time and partly on the machine, and an environment `RUSTFLAGS` silently undoes the
//! flag that asks for the fast one. So the gateway says which it got.

/// The backend that curve25519-dalek computes with in this process: `avx512`, `avx2`, `serial`
/// or `fiat`.
///
/// The crate does not tell, so this repeats its choice: `build.rs` and
/// `backend::get_selected_backend` of version 5.0.0. A flag given with `--cfg` reaches every
/// crate; what its build script adds stays inside it and is spelled out in the constants below.
pub fn curve25519_backend() -> &'static str {
    if cfg!(curve25519_dalek_backend = "fiat") {
        return "fiat";
    }
    #[cfg(target_arch = "x86_64")]
    {
        let has_avx512 =
            is_x86_feature_detected!("avx512ifma") && is_x86_feature_detected!("avx512vl");
        if AVX512_BUILT && has_avx512 {
            return "avx512";
        }
        if AVX2_BUILT && is_x86_feature_detected!("avx2") {
            return "avx2";
        }
    }
    "serial"
}

/// The build script compiles vector code for 64-bit x86 by default.
#[cfg(target_arch = "x86_64")]
const AVX2_BUILT: bool = cfg!(all(
    target_pointer_width = "64",
    not(curve25519_dalek_bits = "32"),
    not(curve25519_dalek_backend = "serial"),
    not(curve25519_dalek_backend = "fiat"),
));

/// AVX-512 only when asked for, or when the whole build targets CPUs that have it.
#[cfg(target_arch = "x86_64")]
const AVX512_BUILT: bool = AVX2_BUILT
    && (cfg!(curve25519_dalek_backend = "avx512")
        || cfg!(all(
            not(curve25519_dalek_backend = "simd"),
            target_feature = "avx512ifma",
            target_feature = "avx512vl",
        )));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_one_of_the_closed_words() {
        assert!(["avx512", "avx2", "serial", "fiat"].contains(&curve25519_backend()));
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", curve25519_dalek_backend = "avx512"))]
    fn a_build_with_the_flag_uses_avx512_where_the_cpu_has_it() {
        let has_avx512 =
            is_x86_feature_detected!("avx512ifma") && is_x86_feature_detected!("avx512vl");
        assert_eq!(curve25519_backend() == "avx512", has_avx512);
    }

    #[test]
    fn the_mirrored_crate_is_still_the_version_that_was_read() {
        let read = "name = \"curve25519-dalek\"\nversion = \"5.0.0\"\n";
        assert!(
            include_str!("../../Cargo.lock").contains(read),
            "compare curve25519_backend() with build.rs and backend.rs of the new version"
        );
    }
}
