//! The birth of a store: a header and an empty checkpoint, durable before anybody may rely on them.

use std::sync::Arc;

use holdfast_log::hash::ChainHash;
use holdfast_log::header::VolumeHeader;
use holdfast_log::seam::ReplicaError;
use holdfast_ports::{AlignedBuffer, Disk};
use holdfast_vocabulary::{SegmentNumber, Seq};

use crate::advance::write_checkpoint;
use crate::checkpoint::Checkpoint;
use crate::failure::{damaged, disk_error};
use crate::index::IndexRoot;
use crate::names;

/// Makes an empty store of the volume that `header` (a whole header file, MACed by who creates the volume) describes.
/// Refuses a directory that holds anything: what is there may be somebody's data.
pub fn create(disk: &Arc<dyn Disk>, header: &[u8]) -> Result<(), ReplicaError> {
    let (facts, _) = VolumeHeader::decode(header).map_err(|error| damaged(names::HEADER, 0, &error))?;
    // A crash in the middle of an earlier try leaves files, but never a header: the header comes last, by a rename.
    let found = disk.list().map_err(disk_error)?;
    let unfinished = |name: &String| {
        name.ends_with(names::UNFINISHED) || names::CHECKPOINTS.contains(&name.as_str()) || name.starts_with("idx-")
    };
    if let Some(name) = found.iter().find(|name| !unfinished(name)) {
        return Err(ReplicaError::Damaged {
            file: name.clone(),
            offset: 0,
            problem: "the directory is not empty; a new store is only made where nothing is, so that it cannot \
                      replace data: use an empty directory, or open the store that is there"
                .to_owned(),
        });
    }
    for name in &found {
        disk.remove(name).map_err(disk_error)?;
    }
    let checkpoint = Checkpoint {
        volume: facts.volume,
        number: 0,
        through: Seq(0),
        chain: ChainHash::default(),
        committed: Seq(0),
        root: None,
        boundary: SegmentNumber(1),
        next_segment: SegmentNumber(1),
        index: IndexRoot::default(),
        epochs: Vec::new(),
        periods: Vec::new(),
        segments: Vec::new(),
    };
    write_checkpoint(&**disk, &checkpoint)?;
    replace_file(&**disk, names::HEADER, header)
}

/// Puts a small file in the place of another, so that after a crash the old or the new one is there, whole.
pub(crate) fn replace_file(disk: &dyn Disk, name: &str, content: &[u8]) -> Result<(), ReplicaError> {
    let unfinished = format!("{name}{}", names::UNFINISHED);
    match disk.remove(&unfinished) {
        Err(error) if !error.is_not_found() => return Err(disk_error(error)),
        _ => {}
    }
    let mut bytes = AlignedBuffer::with_len(holdfast_log::bytes::round_up(content.len(), disk.sector_bytes()));
    bytes[..content.len()].copy_from_slice(content);
    let file = disk.create(&unfinished).map_err(disk_error)?;
    file.write_at(0, &bytes).and_then(|()| file.sync()).map_err(disk_error)?;
    disk.rename(&unfinished, name).map_err(disk_error)?;
    disk.sync_names().map_err(disk_error)
}
