//! Finding the agent on a serial line.
//!
//! Nobody says when a guest's agent begins to listen, and what was sent before may have been lost or cut at any byte.
//! The protocol's own answer is `guest-sync-delimited`: 0xFF, which no JSON contains, makes the agent forget
//! whatever it had read; then it answers with 0xFF and the number it was sent. So a number is sent again and
//! again until the *last* one comes back. Answers to earlier ones arrive before it, as the agent answers in
//! order, so after it the line is clean. A guest that begins to listen turns its chip's FIFOs on, which loses the one byte that is in
//! it: hence two of 0xFF, and what was sent before the guest's first instruction is heard all the same.

use std::{io, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, timeout_at},
};

const SENTINEL: u8 = 0xFF;
/// What an agent may say before its sentinel, or in its answer.
const MOST_NOISE: usize = 64 << 10;
/// Between attempts: longer than the quickest guest takes to boot, which hears the first. It has to answer all that was sent meanwhile, and
/// each time costs it a millisecond or two.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "return")]
    number: i64,
}

/// Sends numbers until the last one comes back. Waits for ever: the caller has the deadline.
pub async fn synchronise<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut pause = FIRST_PAUSE;
    let mut heard = Vec::new();
    for number in 1_i64.. {
        let mut request = vec![SENTINEL; 2];
        request.extend_from_slice(
            format!("{{\"execute\":\"guest-sync-delimited\",\"arguments\":{{\"id\":{number}}}}}\n")
                .as_bytes(),
        );
        stream.write_all(&request).await?;
        let until = Instant::now() + pause;
        while let Ok(read) = timeout_at(until, stream.read_buf(&mut heard)).await {
            if read? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the serial line was closed"));
            }
            if last_answer(&mut heard) == Some(number) {
                return Ok(());
            }
            // Noise without an end is no conversation; what came last matters.
            if heard.len() > MOST_NOISE {
                heard.drain(..heard.len() - MOST_NOISE / 2);
            }
        }
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the agent never answered"))
}

/// Takes whole answers out of what was heard; gives the last one's number where nothing follows it.
fn last_answer(heard: &mut Vec<u8>) -> Option<i64> {
    let mut last = None;
    while let Some(start) = heard.iter().position(|&byte| byte == SENTINEL) {
        let Some(length) = heard[start..].iter().position(|&byte| byte == b'\n') else { break };
        let line = &heard[start..start + length];
        let line = &line[line.iter().rposition(|&byte| byte == SENTINEL).map_or(0, |at| at + 1)..];
        last = serde_json::from_slice::<Answer>(line).ok().map(|answer| answer.number);
        heard.drain(..=start + length);
    }
    last.filter(|_| heard.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_behind_noise_and_only_the_last_counts() {
        let mut heard =
            b"SeaBIOS\r\n{\"error\":{}}\n\xff{\"return\": 1}\n\xff\xff{\"return\": 2}\r\n".to_vec();
        assert_eq!(last_answer(&mut heard), Some(2));
        let mut half = b"\xff{\"return\": 1}\n\xff{\"ret".to_vec();
        assert_eq!(last_answer(&mut half), None);
        half.extend_from_slice(b"urn\":2}\n");
        assert_eq!(last_answer(&mut half), Some(2));
        let mut error = b"\xff{\"error\":{\"class\":\"x\"}}\n".to_vec();
        assert_eq!(last_answer(&mut error), None);
    }

    #[tokio::test]
    async fn an_agent_that_wakes_late_and_answers_everything_is_found() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let guest = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(160)).await;
            let mut answered = 0;
            let mut requests = Vec::new();
            while theirs.read_buf(&mut requests).await.is_ok_and(|read| read > 0) {
                while let Some(end) = requests.iter().position(|&byte| byte == b'\n') {
                    let line: Vec<u8> = requests.drain(..=end).collect();
                    assert_eq!(line[..2], [SENTINEL; 2]);
                    let request: serde_json::Value = serde_json::from_slice(&line[2..]).unwrap();
                    let answer = format!("{{\"return\":{}}}\n", request["arguments"]["id"]);
                    theirs.write_all(&[&[SENTINEL], answer.as_bytes()].concat()).await.unwrap();
                    answered += 1;
                }
            }
            answered
        });
        synchronise(&mut ours).await.unwrap();
        drop(ours);
        assert!(guest.await.unwrap() >= 2);
    }

    #[tokio::test]
    async fn a_closed_line_is_an_error() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        synchronise(&mut ours).await.unwrap_err();
    }

    #[tokio::test]
    async fn endless_noise_does_not_fill_the_memory() {
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        let noise = tokio::spawn(async move { while theirs.write_all(&[SENTINEL; 4096]).await.is_ok() {} });
        let waited = tokio::time::timeout(Duration::from_millis(200), synchronise(&mut ours)).await;
        waited.unwrap_err();
        noise.abort();
    }
}
