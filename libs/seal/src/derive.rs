//! HKDF-SHA256, the one way from a key to another key.

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

struct OutputBytes(usize);

impl KeyType for OutputBytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// Extract, then expand to `N` bytes, wiped when dropped. `info` is the concatenation of its parts: a label that no
/// other caller uses, followed by fields of fixed width, so that two meanings never share an input.
///
/// An empty salt is the salt of 32 zeros that RFC 5869 puts in its place.
pub(crate) fn derive<const N: usize>(key: &[u8; 32], salt: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; N]> {
    // RFC 5869 has no output beyond 255 hashes; asking for more is refused when this is compiled.
    const { assert!(N <= 255 * 32) };
    let mut out = Zeroizing::new([0; N]);
    Salt::new(HKDF_SHA256, salt)
        .extract(key)
        .expand(info, OutputBytes(N))
        .and_then(|output| output.fill(out.as_mut()))
        .expect("HKDF fails only for an output that is too long");
    out
}
