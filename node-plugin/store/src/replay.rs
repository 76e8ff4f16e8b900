//! The log above the base, put together from what its segments say.
//!
//! The question that must be answered rightly is whether a place where the log breaks off is the torn end of something that
//! nobody was promised, or the loss of something that was acknowledged. It is a loss as soon as any mark says so: a committed
//! mark in a later header, the base of a later epoch's start record, the checkpoint's own. Then the store does not open:
//! cutting the log there would turn a damaged copy into a wrong one.

use std::sync::Arc;

use holdfast_log::group::GroupBody;
use holdfast_log::hash::ChainHash;
use holdfast_log::seam::{EpochRow, ReplicaError};
use holdfast_log::segment::{MovedTable, SegmentHead, SegmentKind};
use holdfast_ports::Disk;
use holdfast_vocabulary::{Epoch, Generation, SegmentNumber, Seq, VolumeId};

use crate::failure::disk_error;
use crate::names;
use crate::scan::{self, LogScan, ScannedGroup};
use crate::segments::Segment;

/// A segment above the checkpoint.
pub(crate) enum Found {
    Log {
        segment: Arc<Segment>,
        scan: LogScan,
        head: SegmentHead,
    },
    Moved {
        segment: Arc<Segment>,
        table: MovedTable,
    },
    /// A file whose head is not whole; the mark is the highest in any header that is.
    Headless {
        number: SegmentNumber,
        mark: Seq,
    },
    /// A file that counts for nothing: freed, or never finished.
    Garbage {
        name: String,
    },
}

/// A group above the checkpoint, in its place in the log.
pub(crate) struct TailGroup {
    pub group: ScannedGroup,
    pub segment: Arc<Segment>,
}

/// The place where the log breaks off.
struct Break {
    file: String,
    offset: u64,
    /// The first record that is not there.
    from: Seq,
    /// The highest mark found behind it.
    mark: Seq,
}

/// The log above the checkpoint, as it is put together.
pub(crate) struct Replay {
    pub head: Seq,
    pub chain: ChainHash,
    pub epoch: Option<(Generation, Epoch)>,
    pub epochs: Vec<EpochRow>,
    pub groups: Vec<TailGroup>,
    broken: Option<Break>,
    /// The highest mark of all that counts.
    pub mark: Seq,
}

impl Replay {
    pub fn run(
        through: Seq,
        chain: ChainHash,
        epochs: &[EpochRow],
        committed: Seq,
        found: &[Found],
        sector: u32,
    ) -> Result<Self, ReplicaError> {
        let mut replay = Self {
            head: through,
            chain,
            epoch: epochs.last().map(|row| (row.generation, row.epoch)),
            epochs: epochs.to_vec(),
            groups: Vec::new(),
            broken: None,
            mark: committed,
        };
        for one in found {
            match one {
                Found::Log { segment, scan, head } => {
                    for group in &scan.groups {
                        replay.take(segment, group)?;
                    }
                    if let Some(end) = scan.end {
                        replay.note_break(&segment.name, end.into(), scan.mark_behind);
                    } else if head.first_seq > replay.head.next() && scan.groups.is_empty() {
                        replay.note_break(&segment.name, 0, Seq(0));
                    }
                }
                Found::Headless { number, mark } => replay.note_break(&names::segment(*number), 0, *mark),
                Found::Moved { .. } | Found::Garbage { .. } => {}
            }
        }
        replay.refuse_loss()?;
        replay.check_unmarked_data(sector)?;
        replay.refuse_loss()?;
        Ok(replay)
    }

    fn note_break(&mut self, file: &str, offset: u64, mark: Seq) {
        match &mut self.broken {
            Some(broken) => broken.mark = broken.mark.max(mark),
            None => self.broken = Some(Break { file: file.to_owned(), offset, from: self.head.next(), mark }),
        }
    }

    /// Takes the next whole header that was found.
    fn take(&mut self, segment: &Arc<Segment>, group: &ScannedGroup) -> Result<(), ReplicaError> {
        let header = &group.header;
        if let GroupBody::Start(start) = &header.body {
            let order = (header.generation, header.epoch);
            if self.epoch.is_some_and(|newest| newest >= order) {
                return Ok(());
            }
            // The session that began this epoch had read everything up to its base.
            if start.base > self.head {
                self.note_break(&segment.name, group.offset.into(), start.base);
                return self.refuse_loss();
            }
            self.cut(start.base);
            if self.head != start.base || self.chain != start.base_chain {
                return Err(ReplicaError::Damaged {
                    file: segment.name.clone(),
                    offset: group.offset.into(),
                    problem: format!(
                        "epoch {} starts at record {} with chain {}, but the log has record {} with chain {} there",
                        header.epoch.0, start.base, start.base_chain, self.head, self.chain
                    ),
                });
            }
            self.broken = None;
            self.mark = self.mark.max(start.base);
            self.epoch = Some(order);
            self.epochs.push(EpochRow {
                generation: order.0,
                epoch: order.1,
                base: start.base,
                base_chain: start.base_chain,
            });
        } else if self.epoch != Some((header.generation, header.epoch)) {
            // Sealed in an epoch that another one has ended: void, whatever it says.
            return Ok(());
        } else if header.first_seq != self.head.next() || header.previous != self.chain {
            if header.first_seq > self.head {
                self.note_break(&segment.name, group.offset.into(), header.committed);
            }
            return Ok(());
        } else {
            self.broken = None;
            self.mark = self.mark.max(header.committed);
            self.head = header.last_seq();
        }
        self.chain = group.chain;
        self.groups
            .push(TailGroup { group: ScannedGroup { header: header.clone(), ..*group }, segment: Arc::clone(segment) });
        Ok(())
    }

    /// Drops the groups above `base`: a start record says that they are void.
    fn cut(&mut self, base: Seq) {
        while self.head > base {
            let Some(last) = self.groups.pop() else { return };
            if matches!(last.group.header.body, GroupBody::Start(_)) {
                self.epochs.pop();
            }
            self.chain = last.group.header.previous;
            self.head = Seq(last.group.header.first_seq.0 - 1);
        }
    }

    /// Groups above every mark may have headers that reached the disk before their records did.
    fn check_unmarked_data(&mut self, sector: u32) -> Result<(), ReplicaError> {
        let first = self.groups.iter().position(|one| one.group.header.last_seq() > self.mark);
        for position in first.unwrap_or(self.groups.len())..self.groups.len() {
            let TailGroup { group, segment } = &self.groups[position];
            if !scan::data_is_whole(&**segment.file()?, sector, group)? {
                let (file, offset) = (segment.name.clone(), group.offset.into());
                let before = Seq(group.header.first_seq.0 - 1);
                let mark = self.groups[position..].iter().map(|one| one.group.header.committed).max();
                self.cut(before);
                self.broken = None;
                self.note_break(&file, offset, mark.unwrap_or_default());
                return Ok(());
            }
        }
        Ok(())
    }

    /// Refuses to go on when what is missing was acknowledged.
    fn refuse_loss(&self) -> Result<(), ReplicaError> {
        match &self.broken {
            Some(broken) if broken.mark.max(self.mark) >= broken.from => Err(ReplicaError::Lost {
                file: broken.file.clone(),
                offset: broken.offset,
                from: broken.from,
                committed: broken.mark.max(self.mark),
            }),
            _ => Ok(()),
        }
    }
}

/// Looks at a segment that the checkpoint does not list.
pub(crate) fn examine(
    disk: &Arc<dyn Disk>,
    number: SegmentNumber,
    volume: VolumeId,
    sector: u32,
    boundary: SegmentNumber,
) -> Result<Found, ReplicaError> {
    let name = names::segment(number);
    let file = disk.open(&name).map_err(disk_error)?;
    let head = match scan::read_head(&*file, &name, sector as usize)? {
        Ok(head) if head.number == number => head,
        Ok(_) | Err(_) if number < boundary => return Ok(Found::Garbage { name }),
        // No crash renames a segment. Whoever did took it away from where it is missed, or put it over what was here.
        Ok(head) => {
            return Err(ReplicaError::Damaged {
                file: name,
                offset: 0,
                problem: format!("it is {} under another name; put it back", names::segment(head.number)),
            });
        }
        Err(_) => return Ok(Found::Headless { number, mark: scan::marks_of(&*file, sector)? }),
    };
    if head.volume != volume {
        return Err(ReplicaError::Damaged {
            file: name,
            offset: 0,
            problem: format!("it belongs to volume {}, not to {volume}; take it out of this directory", head.volume),
        });
    }
    if head.sector != sector {
        return Err(ReplicaError::Damaged {
            file: name,
            offset: 0,
            problem: format!("it was written with sectors of {} bytes; this disk has {sector}", head.sector),
        });
    }
    let bytes = file.len().map_err(disk_error)?.min(u32::MAX.into()) as u32;
    match head.kind {
        SegmentKind::Log { .. } if number < boundary => Ok(Found::Garbage { name }),
        SegmentKind::Log { .. } => Ok(Found::Log {
            segment: Segment::new(disk, number, head.instance, None, bytes),
            scan: scan::scan_log(&*file, sector, &head)?,
            head,
        }),
        SegmentKind::Moved { temperature } => Ok(match scan::read_moved(&*file, sector as usize, head.instance)? {
            Some(table) => {
                let segment = Segment::new(disk, number, head.instance, Some(temperature), bytes);
                Found::Moved { segment, table }
            }
            None => Found::Garbage { name },
        }),
    }
}
