//! What a run has done with one filesystem that it is to freeze. The byte of each state is what a
//! freeze record holds, so a state's byte must never change its meaning.

/// What has been done with a target. The byte is what the record says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum TargetState {
    /// Not touched.
    Planned = b'.',
    /// It may be frozen: the record cannot be kept up to date while something is frozen.
    Unknown = b'?',
    /// `FIFREEZE` has been called and has not returned.
    Freezing = b'f',
    /// Frozen by us.
    Frozen = b'F',
    /// `FITHAW` has been called and has not returned.
    Thawing = b'w',
    /// Thawed by us, or found thawed.
    Thawed = b't',
    /// `FIFREEZE` failed: not frozen by us.
    Refused = b'x',
    /// `FITHAW` failed for good: still frozen.
    Lost = b'L',
}

impl TargetState {
    const ALL: [Self; 8] = [
        Self::Planned,
        Self::Unknown,
        Self::Freezing,
        Self::Frozen,
        Self::Thawing,
        Self::Thawed,
        Self::Refused,
        Self::Lost,
    ];

    /// What a byte of the record means; an unknown byte means that the target may be frozen.
    pub(super) fn from_byte(byte: u8) -> Self {
        let known = Self::ALL.into_iter().find(|state| *state as u8 == byte);
        known.unwrap_or(Self::Unknown)
    }

    /// Whether a run that died in this state may have left the target frozen.
    pub(super) fn may_be_frozen(self) -> bool {
        !matches!(self, Self::Planned | Self::Thawed | Self::Refused)
    }

    /// Whether no thread works on the target, and none has to.
    pub(super) fn is_settled(self) -> bool {
        !matches!(self, Self::Freezing | Self::Frozen | Self::Thawing)
    }
}
