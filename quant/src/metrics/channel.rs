//! Errors channel by channel, to find the worst output channel of a layer.

use serde::{Deserialize, Serialize};

use super::{
    ErrorSums, Metrics, MetricsError,
    error::{check, check_len},
};

/// One [`ErrorSums`] for each index of the last axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelErrorSums {
    channels: Vec<ErrorSums>,
}

/// The channel with the lowest SQNR.
#[derive(Debug, Clone, PartialEq)]
pub struct WorstChannel {
    /// Index on the last axis.
    pub channel: usize,
    /// Its metrics.
    pub metrics: Metrics,
}

impl ChannelErrorSums {
    /// For tensors whose last axis has this length.
    pub fn new(channels: usize) -> Self {
        Self {
            channels: vec![ErrorSums::default(); channels],
        }
    }

    /// Takes in two tensors `[.., channels]`, or matching whole rows of them.
    ///
    /// # Errors
    /// As [`ErrorSums::update`]; [`MetricsError::Channels`] for a broken row.
    pub fn update(&mut self, reference: &[f32], got: &[f32]) -> Result<(), MetricsError> {
        check_len(reference, got)?;
        let channels = self.channels.len();
        let len = reference.len();
        if len.checked_rem(channels).unwrap_or(len) != 0 {
            return Err(MetricsError::Channels { len, channels });
        }
        check(reference, got)?;
        let width = channels.max(1);
        for (reference, got) in reference.chunks(width).zip(got.chunks(width)) {
            for (sums, (&r, &g)) in self.channels.iter_mut().zip(reference.iter().zip(got)) {
                sums.add_pair(r, g);
            }
        }
        Ok(())
    }

    /// Adds the sums of other rows.
    ///
    /// # Errors
    /// [`MetricsError::Channels`] if the other has another number of channels.
    pub fn merge(&mut self, other: &Self) -> Result<(), MetricsError> {
        let (channels, len) = (self.channels.len(), other.channels.len());
        if channels != len {
            return Err(MetricsError::Channels { len, channels });
        }
        self.channels
            .iter_mut()
            .zip(&other.channels)
            .for_each(|(a, b)| a.merge(b));
        Ok(())
    }

    /// Sums of each channel, in order.
    pub fn channels(&self) -> &[ErrorSums] {
        &self.channels
    }

    /// The channel with the lowest SQNR, the first of equals; `None` where no channel has an error.
    pub fn worst(&self, output_scale: Option<f32>) -> Option<WorstChannel> {
        let with_error = self.channels.iter().enumerate();
        let with_error = with_error.filter_map(|(i, sums)| Some((i, sums, sums.sqnr_db()?)));
        let (channel, sums, _) = with_error.min_by(|a, b| a.2.total_cmp(&b.2))?;
        Some(WorstChannel {
            channel,
            metrics: sums.finish(output_scale),
        })
    }
}
