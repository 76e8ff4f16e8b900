//! Bytes, checksums, keys, one sealed block: §1 and §2.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// Little-endian numbers, one after the other.
pub struct Bytes<'a> {
    bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn take(&mut self, count: usize) -> &'a [u8] {
        self.at += count;
        &self.bytes[self.at - count..self.at]
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().unwrap()
    }

    pub fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn zeros(&mut self, count: usize) {
        assert!(self.take(count).iter().all(|byte| *byte == 0), "reserved bytes are zero");
    }

    pub fn end(&self) {
        assert_eq!(self.at, self.bytes.len(), "everything was read");
    }
}

/// CRC32C, bit by bit, from its polynomial.
pub fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |register, byte| {
        (0..8).fold(register ^ u32::from(*byte), |register, _| {
            register >> 1 ^ if register & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}

/// BLAKE3 under a label, which is padded with spaces.
pub fn blake3(label: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut key = [b' '; 32];
    key[..label.len()].copy_from_slice(label.as_bytes());
    *blake3::keyed_hash(&key, &parts.concat()).as_bytes()
}

/// HKDF-SHA256.
pub fn expand<const N: usize>(key: &[u8; 32], salt: Option<&[u8]>, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    Hkdf::<Sha256>::new(salt, key).expand(&info.concat(), &mut out).unwrap();
    out
}

/// HMAC-SHA256.
pub fn hmac(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

/// SHA-256 in hexadecimal, for the list of blocks.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a sealed block is bound to.
pub fn block_aad(flags: u8, length: usize, origin: &[u8; 16], block: u64, epoch: u64, seq: u64) -> Vec<u8> {
    [
        &[1, flags][..],
        &(length as u16).to_le_bytes(),
        &[0; 4],
        origin,
        &block.to_le_bytes(),
        &epoch.to_le_bytes(),
        &seq.to_le_bytes(),
    ]
    .concat()
}

/// Opens ciphertext and tag.
pub fn open(subkey: &[u8; 32], seq: u64, aad: &[u8], record: &[u8]) -> Vec<u8> {
    let nonce: [u8; 12] = [&[0; 4][..], &seq.to_le_bytes()].concat().try_into().unwrap();
    let (ciphertext, tag) = record.split_at(record.len() - 16);
    let tag: [u8; 16] = tag.try_into().unwrap();
    let mut bytes = ciphertext.to_vec();
    let cipher = Aes256Gcm::new_from_slice(subkey).unwrap();
    let opened = cipher.decrypt_inout_detached(&nonce.into(), aad, bytes.as_mut_slice().into(), &tag.into());
    assert!(opened.is_ok(), "the block with seq {seq} opens");
    bytes
}

/// One LZ4 block that holds 4096 bytes.
pub fn lz4_block(packed: &[u8]) -> Vec<u8> {
    let mut from = Bytes::new(packed);
    let mut out = Vec::with_capacity(4096);
    loop {
        let token = usize::from(from.u8());
        let literals = lz4_length(&mut from, token >> 4);
        out.extend_from_slice(from.take(literals));
        if from.at == packed.len() {
            break;
        }
        let distance = usize::from(from.u16());
        let length = lz4_length(&mut from, token & 15) + 4;
        for _ in 0..length {
            out.push(out[out.len() - distance]);
        }
    }
    assert_eq!(out.len(), 4096);
    out
}

fn lz4_length(from: &mut Bytes<'_>, short: usize) -> usize {
    let mut length = short;
    let mut more = short == 15;
    while more {
        let byte = usize::from(from.u8());
        length += byte;
        more = byte == 255;
    }
    length
}
