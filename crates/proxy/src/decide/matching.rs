//! Matchers.

/// A path matcher.
#[derive(Clone, Debug)]
pub enum PathMatcher {}
/// A header matcher.
#[derive(Clone, Debug)]
pub enum HeaderMatcher {}
/// A query parameter matcher.
#[derive(Clone, Debug)]
pub enum QueryMatcher {}
/// A string matcher.
#[derive(Clone, Debug)]
pub enum StringMatcher {}
/// Pattern and substitution.
#[derive(Clone, Debug)]
pub struct RegexRewrite {}
/// A share of the requests, parts per million.
#[derive(Clone, Copy, Debug)]
pub struct Fraction(pub u32);
