//! Frames over tokio's pipes; the format is `gradus_protocol`'s.

use gradus_protocol::{FrameError, LARGEST_FRAME, write_frame};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Reads one frame; `None` when the stream ended between two.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<T>, FrameError> {
    let mut length = [0; 4];
    match from.read(&mut length).await? {
        0 => return Ok(None),
        read => from.read_exact(&mut length[read..]).await?,
    };
    let length = u32::from_le_bytes(length);
    if length > LARGEST_FRAME {
        return Err(FrameError::TooLarge(length));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body).await?;
    Ok(Some(serde_json::from_slice(&body)?))
}

pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
) -> Result<(), FrameError> {
    let mut frame = Vec::new();
    write_frame(&mut frame, message)?;
    to.write_all(&frame).await?;
    Ok(to.flush().await?)
}
