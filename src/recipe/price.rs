//! What a GPU costs for an hour: an amount and a currency, `2.49 USD`.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An amount and its currency.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Price {
    pub amount: f64,
    /// As the user writes it: `USD`.
    pub currency: String,
}

const EXPECTED: &str = "an amount above 0 and a currency, such as \"2.49 USD\"";

impl FromStr for Price {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found {text:?}, expected {EXPECTED}");
        let (amount, currency) = text.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        let amount = amount.parse::<f64>().ok().filter(|amount| *amount > 0.0 && amount.is_finite());
        let currency = currency.trim();
        let is_word = (1..=8).contains(&currency.chars().count()) && !currency.contains(char::is_whitespace);
        match amount {
            Some(amount) if is_word => Ok(Self { amount, currency: currency.to_owned() }),
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Price {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Price> for String {
    fn from(price: Price) -> Self {
        price.to_string()
    }
}

impl Display for Price {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

impl JsonSchema for Price {
    fn schema_name() -> Cow<'static, str> {
        "Price".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "an amount above 0 and a currency: \"2.49 USD\""})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_has_an_amount_and_a_currency() {
        let price: Price = "2.49 USD".parse().unwrap();
        assert_eq!(
            (price.amount, price.currency.as_str(), price.to_string().as_str()),
            (2.49, "USD", "2.49 USD")
        );
        for text in ["", "2.49", "USD", "0 USD", "-1 USD", "inf USD", "2 US dollars", "2.49USD"] {
            assert!(text.parse::<Price>().is_err(), "{text}");
        }
    }
}
