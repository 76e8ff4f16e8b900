//! The bare cipher and bare memory: what no engine that encrypts can be faster than.

use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::Outcome;
use crate::spread::Spread;
use crate::timing::seconds_per_call;

const AAD_BYTES: usize = 48;

/// Bytes a second of CPU time that one core seals in blocks of 4 KiB, the additional data as long as the engine's.
pub fn seal_rate(runs: usize, budget: Duration) -> Outcome<Spread> {
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(|_| "the cipher takes no key")?);
    let mut block = vec![0x5a; BLOCK_BYTES];
    let mut counter = 0_u64;
    let mut rates = Vec::new();
    for _ in 0..runs {
        let seconds = seconds_per_call(budget, || {
            counter += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_le_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; AAD_BYTES]), &mut block);
            std::hint::black_box(&tag);
        });
        rates.push(BLOCK_BYTES as f64 / seconds);
    }
    Ok(Spread::of(rates))
}

/// Bytes a second that one core copies, 4 KiB at a time, from and to more memory than the nearer caches hold.
pub fn copy_rate(runs: usize, budget: Duration) -> Spread {
    const BYTES: usize = 64 << 20;
    let (from, mut to) = (vec![1_u8; BYTES], vec![2_u8; BYTES]);
    let mut at = 0;
    let rates = (0..runs)
        .map(|_| {
            let seconds = seconds_per_call(budget, || {
                to[at..at + BLOCK_BYTES].copy_from_slice(&from[at..at + BLOCK_BYTES]);
                std::hint::black_box(&mut to[at..at + BLOCK_BYTES]);
                at = (at + BLOCK_BYTES) % BYTES;
            });
            BLOCK_BYTES as f64 / seconds
        })
        .collect();
    Spread::of(rates)
}
