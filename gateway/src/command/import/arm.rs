//! Backends, pools and circuit breakers of an ARM template, as `bicep build` writes it.
//!
//! Resources are found wherever they stand: at the top, under a symbolic name, or in a nested deployment.
//! Template expressions are worked out as far as names and URLs need it (`format`, `concat`, `parameters`
//! with a default, `variables`, `resourceId`); what only a deployment knows stays unknown and is told.

mod expression;

use serde_json::Value;

use super::ImportError;
use expression::{Scope, UNKNOWN};

/// What a template has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backends {
    /// Single backends.
    pub backends: Vec<Backend>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// What couldn't be taken over.
    pub remarks: Vec<String>,
}

/// One backend.
#[derive(Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name.
    pub name: String,
    /// None where only a deployment knows it.
    pub url: Option<String>,
    /// Its breaker.
    pub breaker: Option<Breaker>,
    /// The audience that a managed identity is asked for, and its client id.
    pub identity: Option<(String, Option<String>)>,
}

/// A circuit breaker's rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Failures.
    pub count: Option<u64>,
    /// Or their share.
    pub percentage: Option<u64>,
    /// Seconds in which they count.
    pub interval_s: u64,
    /// Seconds for which it stays open.
    pub trip_s: u64,
    /// Statuses that are failures; empty: the default.
    pub ranges: Vec<(u64, u64)>,
    /// Whether `Retry-After` sets how long.
    pub accept_retry_after: bool,
}

/// A pool.
#[derive(Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Name, priority, weight.
    pub members: Vec<(String, u64, u64)>,
    /// The cookie of its session affinity.
    pub cookie: Option<String>,
}

/// Reads a template.
pub fn read(file: &str, text: &str) -> Result<Backends, ImportError> {
    let template: Value =
        serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            let said = error.to_string();
            let said = said
                .split(" at line ")
                .next()
                .unwrap_or_default()
                .to_owned();
            ImportError::new(format!("{file}:{line}:{column}: not JSON: {said}"))
        })?;
    let mut found = Backends::default();
    walk(&template, &Scope::of(&template), &mut found, 0);
    if found.backends.is_empty() && found.pools.is_empty() {
        return Err(ImportError::new(format!(
            "{file}: found no resource of type {TYPE}, expected a template that `bicep build` wrote"
        )));
    }
    Ok(found)
}

fn walk(value: &Value, scope: &Scope<'_>, found: &mut Backends, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let is_backend = value
        .get("type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(TYPE));
    if is_backend && value.get("properties").is_some() {
        resource(value, scope, found);
        return;
    }
    match value {
        Value::Array(elements) => elements
            .iter()
            .for_each(|value| walk(value, scope, found, depth + 1)),
        Value::Object(entries) => {
            let own = entries.contains_key("resources").then(|| Scope::of(value));
            let scope = own.as_ref().unwrap_or(scope);
            entries
                .values()
                .for_each(|value| walk(value, scope, found, depth + 1));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn resource(value: &Value, scope: &Scope<'_>, found: &mut Backends) {
    let written = value["name"].as_str().unwrap_or_default();
    let name = last(&scope.text(written));
    if name.is_empty() || name.contains(UNKNOWN) || value.get("copy").is_some() {
        found.remarks.push(format!(
            "a backend is named {written}, which only a deployment knows: add it by hand"
        ));
        return;
    }
    let properties = &value["properties"];
    if properties["pool"].is_object() {
        let pool = pool(name, properties, scope, &mut found.remarks);
        found.pools.push(pool);
        return;
    }
    let url = properties["url"].as_str().map(|url| scope.text(url));
    let url = url.filter(|url| !url.contains(UNKNOWN) && url.contains("://"));
    let rule = &properties["circuitBreaker"]["rules"][0];
    let breaker = rule.is_object().then(|| breaker(rule)).flatten();
    if rule.is_object() && breaker.is_none() {
        found.remarks.push(format!(
            "the circuit breaker of backend \"{name}\" couldn't be read: add it by hand"
        ));
    }
    let credentials = &properties["credentials"];
    if ["header", "query", "authorization", "certificate"]
        .iter()
        .any(|kind| credentials[*kind].is_object())
    {
        found.remarks.push(format!(
            "backend \"{name}\" has credentials in the template: set them as `auth`"
        ));
    }
    let identity = &credentials["managedIdentity"];
    let audience = identity["resource"]
        .as_str()
        .map(|text| scope.text(text).trim_end_matches('/').to_owned());
    let client_id = identity["clientId"].as_str().map(|text| scope.text(text));
    let client_id = client_id.filter(|id| !id.contains(UNKNOWN));
    found.backends.push(Backend {
        name,
        url,
        breaker,
        identity: audience.map(|audience| (audience, client_id)),
    });
}

fn pool(name: String, properties: &Value, scope: &Scope<'_>, remarks: &mut Vec<String>) -> Pool {
    let services = properties["pool"]["services"].as_array();
    let mut members = Vec::new();
    for service in services.into_iter().flatten() {
        let id = service["id"].as_str().unwrap_or_default();
        let member = last(&scope.text(id));
        if member.is_empty() || member.contains(UNKNOWN) {
            remarks.push(format!(
                "a member of pool \"{name}\" is {id}, which only a deployment knows: add it by hand"
            ));
            continue;
        }
        let number = |key: &str| service[key].as_u64().unwrap_or(1);
        members.push((member, number("priority"), number("weight").max(1)));
    }
    let cookie = properties["pool"]["sessionAffinity"]["sessionId"]["name"].as_str();
    let cookie = cookie.map(|text| scope.text(text));
    Pool {
        name,
        members,
        cookie,
    }
}

fn breaker(rule: &Value) -> Option<Breaker> {
    let condition = &rule["failureCondition"];
    let ranges = condition["statusCodeRanges"].as_array();
    let range = |range: &Value| Some((range["min"].as_u64()?, range["max"].as_u64()?));
    let (count, percentage) = (
        condition["count"].as_u64(),
        condition["percentage"].as_u64(),
    );
    if count.is_none() && percentage.is_none() {
        return None;
    }
    Some(Breaker {
        count,
        percentage,
        interval_s: seconds(condition["interval"].as_str()?)?,
        trip_s: seconds(rule["tripDuration"].as_str()?)?,
        ranges: ranges.into_iter().flatten().filter_map(range).collect(),
        accept_retry_after: rule["acceptRetryAfter"].as_bool().unwrap_or(false),
    })
}

/// The name at the end of `service/name` or a resource's id.
fn last(path: &str) -> String {
    path.rsplit('/')
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// `PT1M`, `PT1H30M`, `P1D`, in seconds.
fn seconds(text: &str) -> Option<u64> {
    let (days, time) = text
        .strip_prefix('P')?
        .split_once('T')
        .unwrap_or((text.strip_prefix('P')?, ""));
    let mut sum: u64 = 0;
    for (part, units) in [
        (days, &[('D', 86_400), ('W', 604_800)][..]),
        (time, &[('H', 3_600), ('M', 60), ('S', 1)][..]),
    ] {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let number: u64 = rest[..end].parse().ok()?;
            let (_, unit) = units
                .iter()
                .find(|(letter, _)| rest[end..].starts_with(*letter))?;
            sum = sum.checked_add(number.checked_mul(*unit)?)?;
            rest = &rest[end + 1..];
        }
    }
    (sum > 0).then_some(sum)
}

const TYPE: &str = "Microsoft.ApiManagement/service/backends";
/// Nested deployments are some three levels of twelve each.
const MAX_DEPTH: usize = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read() {
        let cases = [
            ("PT1M", Some(60)),
            ("PT10S", Some(10)),
            ("PT1H30M", Some(5_400)),
            ("P1D", Some(86_400)),
            ("P1DT1S", Some(86_401)),
            ("1M", None),
            ("PT", None),
            ("PTM", None),
        ];
        for (text, read) in cases {
            assert_eq!(seconds(text), read, "{text}");
        }
    }

    #[test]
    fn backends_pools_and_breakers_are_found_wherever_they_stand() {
        let text = r#"{"parameters": {"service": {"type": "string"}, "suffix": {"defaultValue": "eu"}},
            "resources": {"one": {"type": "Microsoft.ApiManagement/service/backends",
                "name": "[format('{0}/{1}', parameters('service'), 'ptu')]",
                "properties": {"url": "https://a.openai.azure.com/openai", "circuitBreaker": {"rules": [{
                    "failureCondition": {"count": 1, "interval": "PT1M", "statusCodeRanges": [{"min": 429, "max": 429}]},
                    "name": "r", "tripDuration": "PT1M", "acceptRetryAfter": true}]},
                    "credentials": {"managedIdentity": {"resource": "https://cognitiveservices.azure.com/"}}}},
              "inner": {"type": "Microsoft.Resources/deployments", "properties": {"template": {
                "variables": {"pool": "main"}, "resources": [{"type": "microsoft.apimanagement/service/backends",
                "name": "[concat('x/', variables('pool'))]", "properties": {"type": "Pool", "pool": {"services": [
                    {"id": "[resourceId('Microsoft.ApiManagement/service/backends', 'x', 'ptu')]", "priority": 1},
                    {"id": "/backends/paygo", "priority": 2, "weight": 50}],
                    "sessionAffinity": {"sessionId": {"source": "Cookie", "name": "SessionId"}}}}}]}}}}}"#;
        let found = read("f", text).unwrap();
        let breaker = found.backends[0].breaker.as_ref().unwrap();
        assert_eq!(
            (
                breaker.count,
                breaker.interval_s,
                breaker.trip_s,
                breaker.accept_retry_after
            ),
            (Some(1), 60, 60, true)
        );
        assert_eq!(breaker.ranges, [(429, 429)]);
        assert_eq!(
            found.backends[0].identity,
            Some(("https://cognitiveservices.azure.com".to_owned(), None))
        );
        let pool = &found.pools[0];
        assert_eq!(
            (pool.name.as_str(), pool.cookie.as_deref()),
            ("main", Some("SessionId"))
        );
        assert_eq!(
            pool.members,
            [("ptu".to_owned(), 1, 1), ("paygo".to_owned(), 2, 50)]
        );
        assert_eq!(found.remarks, [""; 0]);
        assert!(
            read("f", "{}")
                .unwrap_err()
                .to_string()
                .starts_with("f: found no resource")
        );
    }
}
