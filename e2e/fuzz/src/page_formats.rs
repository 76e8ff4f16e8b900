//! Targets for what the index and the checkpoints are made of: leaf pages, node pages, the index root, checkpoints, the promise.

use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::node::{NODE_CHILDREN, NodePage, ROOT_LEVEL};
use holdfast_store::checkpoint::Checkpoint;
use holdfast_store::decode;
use holdfast_store::index::IndexRoot;

use crate::repair;

/// A leaf page. One content can be packed in more ways than one, so what is compared is the content.
pub fn leaf_page(data: &[u8]) {
    for bytes in [data.to_vec(), repair::page(data)] {
        let Ok(page) = LeafPage::decode(bytes) else { continue };
        let mut entries = vec![None; LEAF_BLOCKS];
        let mut mapped = 0;
        for (position, entry) in page.entries() {
            assert_eq!(page.get(position), Some(entry));
            assert_eq!(page.version(position), Some(entry.version));
            assert!(entry.version.seq.0 != 0 && !entry.shape.is_unmap() && entry.place.offset.is_multiple_of(16));
            entries[position] = Some(entry);
            mapped += 1;
        }
        assert_eq!((mapped, page.versions().count()), (page.mapped(), page.mapped()));
        assert_eq!(page.is_empty(), mapped == 0);
        for (position, entry) in entries.iter().enumerate() {
            assert_eq!(page.get(position), *entry);
        }
        assert_eq!((page.get(LEAF_BLOCKS), page.version(usize::MAX)), (None, None));
        let packed = LeafPage::encode(&entries);
        assert_eq!(packed.state_hash(), page.state_hash());
        let again = LeafPage::decode(packed.bytes().to_vec()).expect("a page that was packed here is read");
        assert!(again == packed && again.entries().eq(page.entries()));
    }
}

/// A node page.
pub fn node_page(data: &[u8]) {
    for bytes in [data.to_vec(), repair::page(data)] {
        let Ok(node) = NodePage::decode(&bytes) else { continue };
        assert!(node.encode() == bytes);
        assert!((1..=ROOT_LEVEL).contains(&node.level()) && (1..=NODE_CHILDREN).contains(&node.len()));
        assert_eq!(node.children().count(), node.len());
        for (index, child) in node.children() {
            assert_eq!(node.child(index), Some(child));
            assert_eq!(node.first_from(index), Some((index, child)));
        }
        let mut emptied = node.clone();
        node.children().for_each(|(index, _)| emptied.set(index, None));
        assert!(emptied.is_empty() && node.hash() != emptied.hash());
    }
}

/// What a checkpoint remembers of an index.
pub fn index_root(data: &[u8]) {
    if let Ok(root) = IndexRoot::decode(data) {
        assert!(root.encode() == data);
        let _ = root.file_bytes();
        assert!(root.files.windows(2).all(|pair| pair[0].number < pair[1].number));
    }
}

/// A checkpoint slot.
pub fn checkpoint(data: &[u8]) {
    let _ = Checkpoint::decode_head(data);
    for bytes in [data.to_vec(), repair::checkpoint(data)] {
        let Ok(checkpoint) = Checkpoint::decode(&bytes) else { continue };
        let again = checkpoint.encode();
        assert!(again == bytes[..again.len()], "a checkpoint that was read is written differently");
        assert_eq!(Checkpoint::decode(&again).as_ref(), Ok(&checkpoint));
    }
}

/// The promise.
pub fn promise(data: &[u8]) {
    for bytes in [data.to_vec(), repair::sector(data)] {
        // There is no encoder to be had: what can be checked is that nothing but the grant decides what is read.
        let Ok(grant) = decode::promise(&bytes) else { continue };
        assert_eq!(bytes[16..24], grant.generation.0.to_le_bytes());
        assert_eq!(bytes[24..32], grant.epoch.0.to_le_bytes());
        assert_eq!(bytes[32..48], grant.session.0);
        assert!(bytes[12..16].iter().chain(&bytes[48..508]).all(|byte| *byte == 0), "reserved bytes are not zero");
    }
}
