//! Which cipher runs here, in words: a rate without the CPU's flags beside it cannot be compared with another.

/// The cipher, the library and those flags of this CPU that decide its speed, for benches and support bundles.
#[must_use]
pub fn cipher_name() -> String {
    let flags = cpu_flags();
    let flags = if flags.is_empty() { "none that help".to_owned() } else { flags.join(" ") };
    format!("AES-256-GCM via aws-lc-rs; cpu flags: {flags}")
}

#[cfg(target_arch = "x86_64")]
fn cpu_flags() -> Vec<&'static str> {
    macro_rules! present {
        ($($flag:tt)+) => {
            [$(($flag, std::is_x86_feature_detected!($flag))),+]
        };
    }
    present!("aes" "vaes" "pclmulqdq" "vpclmulqdq" "avx2" "avx512f" "avx512bw" "avx512vl")
        .into_iter()
        .filter_map(|(flag, present)| present.then_some(flag))
        .collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_flags() -> Vec<&'static str> {
    macro_rules! present {
        ($($flag:tt)+) => {
            [$(($flag, std::arch::is_aarch64_feature_detected!($flag))),+]
        };
    }
    present!("neon" "aes" "pmull" "sha2" "sha3" "sve2")
        .into_iter()
        .filter_map(|(flag, present)| present.then_some(flag))
        .collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_flags() -> Vec<&'static str> {
    Vec::new()
}
