//! What a worker does with a request, or with a piece of one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::answer::InFlight;
use super::buffers::Buffer;
use super::protocol::flag;
use super::queue::Queue;
use super::whole_blocks::{self, Cover};
use crate::ranges::Ranges;
use crate::target::{Target, TargetError};

/// A request or a piece of one, ready to be done.
pub(crate) struct Job {
    pub(crate) request: Arc<InFlight>,
    pub(crate) work: Work,
}

/// What is to be done. Buffers were taken before, by who may wait for them.
pub(crate) enum Work {
    /// To be answered in one piece of data.
    Read(Vec<(Cover, Buffer)>),
    Write(Cover, Buffer),
    Zero(Cover),
    Trim(Cover),
    Flush,
}

/// Works until the queue ends.
pub(crate) fn run(jobs: &Queue<Job>, target: &dyn Target, ranges: &Ranges) {
    while let Some(Job { request, work }) = jobs.take() {
        let line = request.line().clone();
        // A fault of the target must not cost the other connections their worker. This client is not answered, so it
        // must not wait.
        if catch_unwind(AssertUnwindSafe(|| work_on(request, work, target, ranges))).is_err() {
            line.break_off();
        }
    }
}

fn work_on(request: Arc<InFlight>, work: Work, target: &dyn Target, ranges: &Ranges) {
    let result = match work {
        Work::Read(pieces) => return read(&request, pieces, target),
        Work::Write(cover, mut buffer) => whole_blocks::write(target, ranges, &cover, &mut buffer),
        Work::Zero(cover) => zero(&request, &cover, target, ranges),
        Work::Trim(cover) => whole_blocks::trim(target, ranges, &cover),
        Work::Flush => target.flush(),
    };
    request.end_piece(result, target);
}

fn read(request: &Arc<InFlight>, mut pieces: Vec<(Cover, Buffer)>, target: &dyn Target) {
    for (cover, buffer) in &mut pieces {
        if let Err(error) = whole_blocks::read(target, cover, buffer) {
            return request.fail_read(error, cover.wanted.start);
        }
    }
    request.answer_read(pieces);
}

/// Without `NO_HOLE` the room may be given back; with it the target decides what zeros cost. Both are as fast as can
/// be, so `FAST_ZERO` never has to fail.
fn zero(request: &InFlight, cover: &Cover, target: &dyn Target, ranges: &Ranges) -> Result<(), TargetError> {
    if request.request.flags & flag::NO_HOLE != 0 {
        whole_blocks::zero(target, ranges, cover, |offset, length| target.write_zeroes(offset, length))
    } else {
        whole_blocks::zero(target, ranges, cover, |offset, length| target.discard(offset, length))
    }
}
