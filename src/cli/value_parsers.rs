//! Value parsers: words, and error texts for numbers.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, value_parser};
use strum::{EnumMessage, VariantArray};

/// `arg` with its value parser.
pub(super) fn with_value_parser(arg: Arg) -> Arg {
    match arg.get_id().as_str() {
        "addr" => arg.value_parser(read_address),
        _ => number(arg),
    }
}

/// Replaces clap's error texts for numbers by ones that say what to write.
fn number(arg: Arg) -> Arg {
    let is_of = |parser: ValueParser| arg.get_value_parser().type_id() == parser.type_id();
    if is_of(value_parser!(u64).into()) {
        return arg.allow_negative_numbers(true).value_parser(whole::<u64>);
    }
    if is_of(value_parser!(u32).into()) {
        return arg.allow_negative_numbers(true).value_parser(whole::<u32>);
    }
    if is_of(value_parser!(usize).into()) {
        return arg.allow_negative_numbers(true).value_parser(whole::<usize>);
    }
    if is_of(value_parser!(i64).into()) {
        return arg.value_parser(signed);
    }
    if is_of(value_parser!(f64).into()) {
        return arg.value_parser(with_parts);
    }
    arg
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim_matches(' ')
        .parse()
        .map_err(|_| "not a whole number: write digits only, e.g. 20".to_owned())
}

fn signed(text: &str) -> Result<i64, String> {
    text.trim_matches(' ')
        .parse()
        .map_err(|_| "not a whole number: write digits, e.g. 3 or -50003".to_owned())
}

fn with_parts(text: &str) -> Result<f64, String> {
    text.trim_matches(' ')
        .parse()
        .map_err(|_| "not a number: write digits, e.g. 5 or 0.5".to_owned())
}

fn read_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "not an address with a port: write e.g. 127.0.0.1:8047".to_owned())
}

/// Takes the words of `T`, which the help lists in its text and completions offer.
pub(super) fn words<T>() -> impl TypedValueParser<Value = T>
where
    T: VariantArray + EnumMessage + FromStr<Err = String> + Clone + Send + Sync,
    &'static str: From<&'static T>,
{
    let values = T::VARIANTS.iter().map(|value| {
        let spellings = value.get_serializations().iter().copied();
        PossibleValue::new(<&str>::from(value)).aliases(spellings)
    });
    Trimmed(PossibleValuesParser::new(values)).try_map(|word: String| word.parse())
}

/// Removes blanks around a value, as the reader of the file does: an environment file may add them.
#[derive(Clone)]
struct Trimmed<P>(P);

impl<P: TypedValueParser> TypedValueParser for Trimmed<P> {
    type Value = P::Value;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let trimmed = value.to_str().map_or(value, |text| OsStr::new(text.trim_matches(' ')));
        self.0.parse_ref(command, arg, trimmed)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}
