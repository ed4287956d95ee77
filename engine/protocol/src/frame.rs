//! Length-prefixed JSON over any byte stream.
//!
//! The length is checked before a byte of the body is allocated, so a stray print on the stream
//! is an error and never a huge allocation.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The largest frame in bytes; a job with thousands of inputs takes a small part of it.
pub const LARGEST_FRAME: u32 = 16 << 20;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum FrameError {
    #[error("the stream of frames broke off")]
    Io(#[from] io::Error),
    #[error(
        "a frame of {0} bytes is over the limit of {LARGEST_FRAME}: something else wrote to the stream"
    )]
    TooLarge(u32),
    #[error("a frame does not hold the expected message")]
    Json(#[from] serde_json::Error),
}

/// Reads one frame; `None` when the stream ends cleanly between two frames.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<Option<T>, FrameError> {
    let mut length = [0_u8; 4];
    match from.read(&mut length)? {
        0 => return Ok(None),
        read => from.read_exact(&mut length[read..])?,
    }
    let length = u32::from_le_bytes(length);
    if length > LARGEST_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Writes one frame and flushes it.
pub fn write_frame(to: &mut impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if length > LARGEST_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    // One write, so that a frame from another thread cannot land in the middle.
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)?;
    Ok(to.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_then_the_stream_ends() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &"one").unwrap();
        write_frame(&mut bytes, &"two").unwrap();
        let mut stream = bytes.as_slice();
        assert_eq!(read_frame::<String>(&mut stream).unwrap().unwrap(), "one");
        assert_eq!(read_frame::<String>(&mut stream).unwrap().unwrap(), "two");
        assert!(read_frame::<String>(&mut stream).unwrap().is_none());
    }

    #[test]
    fn text_printed_on_the_stream_is_an_error() {
        let error = read_frame::<String>(&mut b"Warning: cuda is unhappy".as_slice()).unwrap_err();
        assert!(matches!(error, FrameError::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_frame_cut_short_is_an_error() {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, &"whole").unwrap();
        bytes.pop();
        assert!(matches!(read_frame::<String>(&mut bytes.as_slice()), Err(FrameError::Io(_))));
    }
}
