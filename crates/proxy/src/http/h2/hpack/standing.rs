//! The static table (RFC 7541, appendix A).

/// How many entries the static table has; the dynamic one begins behind them.
pub(super) const COUNT: usize = FIELDS.len();

/// Names and values by index, from 1.
static FIELDS: [(&str, &str); 61] = TABLE;
const TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// A look-up table without collisions: by the hash of a name, the first index of it.
const SLOTS: usize = 512;
static FIRST: [u8; SLOTS] = slots();

const fn slots() -> [u8; SLOTS] {
    let mut slots = [0; SLOTS];
    let mut index = COUNT;
    while index > 0 {
        let name = TABLE[index - 1].0.as_bytes();
        let slot = slot(hash(name, 0));
        let there = slots[slot] as usize;
        assert!(there == 0 || same(TABLE[there - 1].0.as_bytes(), name), "choose another SEED");
        slots[slot] = index as u8;
        index -= 1;
    }
    slots
}

const fn slot(hash: u64) -> usize {
    (hash >> (64 - 9)) as usize
}

/// The field at `index`; `None` for 0 and behind the table.
#[inline]
pub(super) fn field(index: usize) -> Option<(&'static [u8], &'static [u8])> {
    let (name, value) = FIELDS.get(index.wrapping_sub(1))?;
    Some((name.as_bytes(), value.as_bytes()))
}

/// The first index of a name, by its [`hash`].
#[inline]
pub(super) fn name(name: &[u8], hash: u64) -> Option<usize> {
    let index = usize::from(FIRST[slot(hash)]);
    same(field(index)?.0, name).then_some(index)
}

/// The index of a field whose name stands first at `first`.
#[inline]
pub(super) fn value(first: usize, value: &[u8]) -> Option<usize> {
    let behind = usize::from(*BEHIND.get(first)?);
    (first..behind).find(|index| field(*index).is_some_and(|(_, there)| same(there, value)))
}

/// By the first index of a name: the first index of another one.
static BEHIND: [u8; COUNT + 1] = behind();

const fn behind() -> [u8; COUNT + 1] {
    let mut behind = [0; COUNT + 1];
    let mut index = COUNT;
    while index > 0 {
        let alone = index == COUNT || !same(TABLE[index - 1].0.as_bytes(), TABLE[index].0.as_bytes());
        behind[index] = if alone { index as u8 + 1 } else { behind[index + 1] };
        index -= 1;
    }
    behind
}

/// Chosen so that no two names of the table meet in a slot.
const SEED: u64 = 0x1715_609f_7c74_6c69;
const MULTIPLIER: u64 = 0xd6e8_feb8_6659_fd93;

/// A hash of `text` that goes on from another one, or from 0. It is only a hint: what it finds is compared.
#[inline]
pub(super) const fn hash(text: &[u8], from: u64) -> u64 {
    let mut sum = from ^ SEED.wrapping_mul(text.len() as u64 + 1);
    let mut rest = text;
    while rest.len() > 16 {
        let Some((front, behind)) = rest.split_first_chunk::<16>() else { break };
        let (low, high) = ends(front);
        sum = fold(sum ^ low, MULTIPLIER ^ high);
        rest = behind;
    }
    let (low, high) = ends(rest);
    fold(sum ^ low, MULTIPLIER ^ high)
}

/// Two words that together hold every byte of at most 16; they may overlap.
#[inline]
const fn ends(text: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
    } else if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64)
    } else {
        match text {
            [one] => (*one as u64, 0),
            [one, .., last] => (*one as u64 | (text[1] as u64) << 8, *last as u64),
            [] => (0, 0),
        }
    }
}

/// Whether two texts are equal; short ones without a call.
#[inline]
pub(super) const fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let (mut one, mut other) = (one, other);
    while one.len() > 16 {
        let (Some((front, rest)), Some((there, behind))) =
            (one.split_first_chunk::<16>(), other.split_first_chunk::<16>())
        else {
            return false;
        };
        if u128::from_le_bytes(*front) != u128::from_le_bytes(*there) {
            return false;
        }
        (one, other) = (rest, behind);
    }
    let ((low, high), (there_low, there_high)) = (ends(one), ends(other));
    low == there_low && high == there_high
}

#[inline]
const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    product as u64 ^ (product >> 64) as u64
}
