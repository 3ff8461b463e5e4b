//! Which models a condition lets through, and after which statuses a call is tried again.
//!
//! Both are questions about a condition, answered only where the condition asks about nothing else.

use std::ops::RangeInclusive;

use roxmltree::Node;

use super::super::cel::{Variables, dotted, expression, of};
use super::super::csharp::{Expr, Operator};
use super::read::attribute;

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Models {
    /// Whatever no other route is for.
    Every,
    /// Names, with `*`; none where it can't be told.
    These(Vec<String>),
}

impl Models {
    /// The models that a condition is about, if it is about the model alone.
    pub fn of(condition: &Expr, variables: &Variables) -> Option<Self> {
        let is_model = |expr: &Expr| of(expr, variables).is_some_and(|cel| cel == "request.model");
        let one = |name: String| Some(Self::These(vec![name]));
        match condition {
            Expr::Binary(Operator::Or, left, right) => {
                match (Self::of(left, variables)?, Self::of(right, variables)?) {
                    (Self::These(mut left), Self::These(right)) => {
                        left.extend(right);
                        Some(Self::These(left))
                    }
                    (Self::Every, _) | (_, Self::Every) => Some(Self::Every),
                }
            }
            Expr::Binary(Operator::Equal, left, right) => match (&**left, &**right) {
                (Expr::Text(name), model) | (model, Expr::Text(name)) if is_model(model) => {
                    one(name.clone())
                }
                (_, _) => None,
            },
            Expr::Call(callee, arguments) => match (&**callee, arguments.as_slice()) {
                (Expr::Member(model, method), [Expr::Text(name)]) if is_model(model) => {
                    match method.as_str() {
                        "Equals" => one(name.clone()),
                        "StartsWith" => one(format!("{name}*")),
                        "EndsWith" => one(format!("*{name}")),
                        "Contains" => one(format!("*{name}*")),
                        _ => None,
                    }
                }
                (_, _) => None,
            },
            _ => None,
        }
    }
}

/// `retry` of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts.
    pub count: u64,
    /// After these statuses.
    pub ranges: Vec<RangeInclusive<u16>>,
    /// What differs here.
    pub differs: Option<String>,
}

impl Retry {
    /// Reads `<retry>`.
    pub fn read(node: Node<'_, '_>) -> Result<Self, String> {
        let count = attribute(node, "count").unwrap_or_default();
        let count: u64 = count
            .trim()
            .parse()
            .map_err(|_| format!("count: found \"{count}\", expected a number"))?;
        let condition = attribute(node, "condition").unwrap_or_default();
        let condition = expression(&condition)?.ok_or("condition: found text, expected @(...)")?;
        let retried = |status: &u16| truth(&condition, *status);
        let statuses: Result<Vec<u16>, String> = (2 * CLASS..6 * CLASS)
            .filter_map(|status: u16| match retried(&status) {
                Ok(true) => Some(Ok(status)),
                Ok(false) => None,
                Err(why) => Some(Err(why)),
            })
            .collect();
        let ranges = ranges(&statuses?);
        if ranges.is_empty() || ranges.len() > MAX_RANGES {
            return Err(format!(
                "condition: it holds for {} ranges of statuses, expected 1 to {MAX_RANGES}",
                ranges.len()
            ));
        }
        let waits = attribute(node, "interval").is_some_and(|interval| interval.trim() != "0");
        let differs = match (count > MAX_COUNT, waits) {
            (true, _) => Some(format!(
                "count {count} is more than {MAX_COUNT}, the most here"
            )),
            (false, true) => {
                Some("interval: another member is asked at once, without waiting".to_owned())
            }
            (false, false) => None,
        };
        let count = count.min(MAX_COUNT);
        Ok(Self {
            count,
            ranges,
            differs,
        })
    }
}

fn ranges(statuses: &[u16]) -> Vec<RangeInclusive<u16>> {
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for status in statuses {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == *status => *last = *last.start()..=*status,
            Some(_) | None => ranges.push(*status..=*status),
        }
    }
    ranges
}

fn truth(expr: &Expr, status: u16) -> Result<bool, String> {
    match expr {
        Expr::Truth(truth) => Ok(*truth),
        Expr::Not(of) => Ok(!truth(of, status)?),
        // Both sides are read, so that what isn't understood is told whatever the status.
        Expr::Binary(Operator::Or, left, right) => {
            let (left, right) = (truth(left, status)?, truth(right, status)?);
            Ok(left || right)
        }
        Expr::Binary(Operator::And, left, right) => {
            let (left, right) = (truth(left, status)?, truth(right, status)?);
            Ok(left && right)
        }
        // `context.Response != null`: an attempt that got no answer is tried elsewhere anyway.
        Expr::Binary(operator @ (Operator::Equal | Operator::NotEqual), of, null)
            if **null == Expr::Null =>
        {
            match dotted(of).as_deref() {
                Some("context.Response") => Ok(*operator == Operator::NotEqual),
                Some(_) | None => Err("condition: it asks about more than the status".to_owned()),
            }
        }
        Expr::Binary(operator, left, right) => {
            let (left, right) = (number(left, status)?, number(right, status)?);
            match operator {
                Operator::Equal => Ok(left == right),
                Operator::NotEqual => Ok(left != right),
                Operator::Less => Ok(left < right),
                Operator::LessOrEqual => Ok(left <= right),
                Operator::Greater => Ok(left > right),
                Operator::GreaterOrEqual => Ok(left >= right),
                Operator::Plus | Operator::Coalesce | Operator::Or | Operator::And => {
                    Err("condition: it asks about more than the status".to_owned())
                }
            }
        }
        _ => Err("condition: it asks about more than the status".to_owned()),
    }
}

fn number(expr: &Expr, status: u16) -> Result<i64, String> {
    match expr {
        Expr::Number(number) => Ok(*number),
        expr if dotted(expr).as_deref() == Some("context.Response.StatusCode") => {
            Ok(i64::from(status))
        }
        _ => Err("condition: it asks about more than the status".to_owned()),
    }
}

/// Statuses go by the hundred; those of errors and of success are asked for.
const CLASS: u16 = 100;
/// As the configuration has them.
const MAX_COUNT: u64 = 10;
const MAX_RANGES: usize = 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn models(source: &str) -> Option<Models> {
        Models::of(&expression(source).unwrap().unwrap(), &Variables::new())
    }

    fn retry(attributes: &str) -> Result<Retry, String> {
        let text = format!("<retry {attributes} />");
        let document = roxmltree::Document::parse(&text).unwrap();
        Retry::read(document.root_element())
    }

    #[test]
    fn a_condition_about_the_model_alone_is_a_route() {
        let these = |names: &[&str]| {
            Some(Models::These(
                names.iter().map(ToString::to_string).collect(),
            ))
        };
        let deployment = "context.Request.MatchedParameters[\"deployment-id\"]";
        assert_eq!(
            models(&format!(
                "@({deployment} == \"gpt-4o\" || {deployment}.StartsWith(\"o3\"))"
            )),
            these(&["gpt-4o", "o3*"])
        );
        assert_eq!(models("@(context.Product.Id == \"gold\")"), None);
        assert_eq!(
            models(&format!(
                "@({deployment} == \"a\" && context.Product.Id == \"gold\")"
            )),
            None
        );
    }

    #[test]
    fn a_retry_is_a_count_and_ranges_of_statuses() {
        let lab = retry("count='2' interval='0' first-fast-retry='true' condition='@(context.Response.StatusCode == 429 || context.Response.StatusCode == 503)'").unwrap();
        assert_eq!(
            (lab.count, lab.ranges, lab.differs),
            (2, vec![429..=429, 503..=503], None)
        );
        let wide = retry("count='50' interval='1' condition='@(context.Response != null &amp;&amp; (context.Response.StatusCode == 429 || context.Response.StatusCode &gt;= 500))'").unwrap();
        assert_eq!((wide.count, wide.ranges), (10, vec![429..=429, 500..=599]));
        assert_eq!(
            wide.differs.unwrap(),
            "count 50 is more than 10, the most here"
        );
        assert_eq!(
            retry("count='2' condition='@(context.Variables[&quot;x&quot;] == 1)'").unwrap_err(),
            "condition: it asks about more than the status"
        );
        assert_eq!(
            retry("count='@(1)' condition='@(true)'").unwrap_err(),
            "count: found \"@(1)\", expected a number"
        );
    }
}
