//! Frames of replication links: any bytes are a frame or an error, memory is bounded by what came, and what is taken is written
//! again as the same frame.

use super::memory;
use larder::replication::wire::{
    Batch, FRAME_MAX, Frame, Packed, decode, put_chunk, put_message, put_part, put_records,
};

/// Bytes in front of a frame's kind.
const HEAD: usize = 8;

/// The frame as bytes, without its head.
fn written(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Message(message) => put_message(&mut out, message),
        Frame::Records(batch) => put_records(&mut out, &again(batch)),
        Frame::Part(bytes) => put_part(&mut out, bytes),
        Frame::Chunk { offset, bytes } => put_chunk(&mut out, &Packed::new(*offset, bytes).expect("packs")),
    }
    out.split_off(HEAD)
}

/// The batch put together again from its records.
fn again(batch: &Batch) -> Batch {
    let mut made = Batch::new(batch.number);
    made.position = batch.position;
    batch.records().for_each(|record| made.push(record));
    assert_eq!(&made, batch, "a batch is its records");
    made
}

/// See the module's page.
pub fn check(data: &[u8]) {
    // A chunk says how long it is once unpacked, within the bound of a frame.
    let limit = 4 * FRAME_MAX + 64 * data.len();
    let Some(frame) = memory::within(limit, || decode(data).ok()) else { return };
    let bytes = written(&frame);
    assert_eq!(decode(&bytes).expect("ours"), frame);
}
