//! A policy document, element by element, into what this gateway has for it.
//!
//! Conditions of `choose` go along as expressions; a variable that `set-variable` gives a value is written out
//! where it is used. What has no counterpart becomes a remark with its place, and nothing is left out in
//! silence. Elements that only say what this gateway does anyway (`base`, `forward-request`, removing the
//! caller's key) need no remark.

use filters::expression::{Place, Want};
use roxmltree::{Document, Node};

use super::super::ImportError;
use super::super::cel::{TOKEN, Variables, expression, translate};
use super::super::csharp::Expr;
use super::asked::{Element, Policy, Position, Remark, Target};
use super::route::{self, Models};
use super::{raw, tokens};

/// Reads a document.
///
/// # Errors
/// It isn't XML, or isn't a policy document: `FILE:LINE:COLUMN: why`.
pub fn read(file: &str, text: &str) -> Result<Policy, ImportError> {
    let text = raw::well_formed(text);
    let document = Document::parse(&text).map_err(|error| {
        let at = error.pos();
        let said = error.to_string();
        let said = said
            .rsplit_once(" at ")
            .map_or(said.as_str(), |(said, _)| said);
        ImportError::new(format!(
            "{file}:{}:{}: not XML: {}",
            at.row,
            at.col,
            raw::restored(said)
        ))
    })?;
    let root = document.root_element();
    if !["policies", "fragment"].contains(&root.tag_name().name()) {
        let (line, column) = position(root);
        let found = root.tag_name().name();
        return Err(ImportError::new(format!(
            "{file}:{line}:{column}: found <{found}>, expected <policies> or <fragment>"
        )));
    }
    let mut reader = Reader {
        policy: Policy::default(),
        variables: Variables::new(),
        when: Ok(Vec::new()),
        models: Some(Models::Every),
    };
    for section in root.children().filter(Node::is_element) {
        match section.tag_name().name() {
            "inbound" | "backend" | "outbound" | "on-error" => reader.children(section),
            _ => reader.element(section),
        }
    }
    Ok(reader.policy)
}

/// Where an element begins.
pub fn position(node: Node<'_, '_>) -> Position {
    let at = node.document().text_pos_at(node.range().start);
    (at.row, at.col)
}

/// An attribute as it was written.
pub fn attribute(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.attribute(name).map(raw::restored)
}

struct Reader {
    policy: Policy,
    variables: Variables,
    /// The conditions around, in CEL.
    when: Result<Vec<String>, String>,
    /// The models that they let through, where they are about nothing else.
    models: Option<Models>,
}

impl Reader {
    fn remark(&mut self, node: Node<'_, '_>, said: impl Into<String>) {
        let (at, said) = (position(node), said.into());
        self.policy.remarks.push(Remark { at, said });
    }

    fn children(&mut self, node: Node<'_, '_>) {
        for child in node.children().filter(Node::is_element) {
            self.element(child);
        }
    }

    fn element(&mut self, node: Node<'_, '_>) {
        let name = node.tag_name().name();
        let name = name
            .strip_prefix("azure-openai-")
            .or_else(|| name.strip_prefix("llm-"))
            .unwrap_or(name);
        match name {
            "base" => {}
            "choose" => self.choose(node),
            "retry" => self.retry(node),
            "set-variable" => self.set_variable(node),
            "token-limit" => {
                let element = self.table(node, "");
                self.policy.limits.push(element);
            }
            "emit-token-metric" => {
                let element = self.table(node, "dimension");
                self.policy.metrics.push(element);
            }
            "semantic-cache-lookup" => {
                let element = self.table(node, "vary-by");
                self.policy.caches.push(element);
            }
            "semantic-cache-store" => self.policy.cache_duration = attribute(node, "duration"),
            "set-backend-service" => self.set_backend(node),
            "authentication-managed-identity" => self.identity(node),
            "forward-request" => {
                let timeout = attribute(node, "timeout").and_then(|text| text.parse().ok());
                self.policy.timeout_s = timeout.or(self.policy.timeout_s);
            }
            "set-query-parameter" if node.attribute("name") == Some("api-version") => {
                self.version(node)
            }
            "set-header" => self.set_header(node),
            "validate-azure-ad-token" | "validate-jwt" => self.tokens(node),
            name => {
                let why = OTHERS.iter().find(|(other, _)| *other == name);
                let why = why.map_or("has no counterpart here", |(_, why)| *why);
                self.remark(node, format!("<{}>: {why}", node.tag_name().name()));
            }
        }
    }

    fn table(&self, node: Node<'_, '_>, child: &str) -> Element {
        let attributes = node.attributes();
        let attributes =
            attributes.map(|found| (found.name().to_owned(), raw::restored(found.value())));
        let children = node.children().filter(|found| found.has_tag_name(child));
        let children = children.map(|found| match child {
            "dimension" => (
                attribute(found, "name").unwrap_or_default(),
                attribute(found, "value"),
            ),
            _ => (
                String::new(),
                Some(raw::restored(found.text().unwrap_or_default())),
            ),
        });
        Element {
            at: position(node),
            attributes: attributes.collect(),
            children: children.collect(),
            when: self.when.clone().map(|all| match all.as_slice() {
                [] => None,
                [one] => Some(one.clone()),
                several => Some(
                    several
                        .iter()
                        .map(|one| format!("({one})"))
                        .collect::<Vec<_>>()
                        .join(" && "),
                ),
            }),
            variables: self.variables.clone(),
        }
    }

    /// Each branch in turn, with its own condition and none of those before it.
    fn choose(&mut self, node: Node<'_, '_>) {
        let (outer, outer_models) = (self.when.clone(), self.models.clone());
        let outer_variables = self.variables.clone();
        let mut before: Result<Vec<String>, String> = Ok(Vec::new());
        let mut models_before = Vec::new();
        for branch in node.children().filter(Node::is_element) {
            let condition = attribute(branch, "condition").unwrap_or_default();
            let own = match branch.tag_name().name() {
                "otherwise" => Ok(None),
                _ => {
                    translate(&condition, &self.variables, (Place::Request, Want::Truth)).map(Some)
                }
            };
            let expr = expression(&condition).ok().flatten();
            let models = match branch.tag_name().name() {
                "otherwise" => Some(Models::Every),
                _ => expr.and_then(|expr| Models::of(&expr, &self.variables)),
            };
            self.models = match (&outer_models, &models) {
                (Some(Models::Every), Some(models)) => Some(models.clone()),
                (_, _) => None,
            };
            self.when = conjunction(&outer, &before, own.as_ref());
            self.children(branch);
            models_before.push(models);
            before = before.and_then(|mut all| {
                all.extend(own?.map(|own| format!("!({own})")));
                Ok(all)
            });
            self.variables = outer_variables.clone();
        }
        (self.when, self.models) = (outer, outer_models);
    }

    fn set_variable(&mut self, node: Node<'_, '_>) {
        let Some(name) = attribute(node, "name") else {
            return;
        };
        let value = attribute(node, "value").unwrap_or_default();
        match expression(&value) {
            Ok(Some(expr)) => self.variables.insert(name, expr),
            Ok(None) => self.variables.insert(name, Expr::Text(value)),
            // Whoever uses it is told.
            Err(_) => self.variables.remove(&name),
        };
    }

    fn set_backend(&mut self, node: Node<'_, '_>) {
        let id = attribute(node, "backend-id").map(Target::Id);
        let url = attribute(node, "base-url").map(Target::Url);
        let Some(target) = id.or(url) else {
            self.remark(
                node,
                "<set-backend-service>: found neither backend-id nor base-url",
            );
            return;
        };
        let (Target::Id(name) | Target::Url(name)) = &target;
        if name.contains('@') || name.contains("{{") {
            let said = format!(
                "<set-backend-service>: \"{name}\" is known only when it runs; name the pool in `models`"
            );
            self.remark(node, said);
            return;
        }
        match self.models.clone() {
            Some(models) => self.policy.routes.push((target, models)),
            None => {
                let said = format!(
                    "<set-backend-service> to \"{name}\": its condition isn't about the model alone; calls are routed by `models`"
                );
                self.remark(node, said);
                self.policy.routes.push((target, Models::These(Vec::new())));
            }
        }
    }

    fn retry(&mut self, node: Node<'_, '_>) {
        match route::Retry::read(node) {
            Ok(retry) => self.policy.retry = Some(retry),
            Err(why) => self.remark(node, format!("<retry>: {why}; the default is kept")),
        }
        let children = node.children().filter(Node::is_element);
        for child in children
            .filter(|child| {
                child.tag_name().name() != "set-backend-service" || self.policy.routes.is_empty()
            })
            .collect::<Vec<_>>()
        {
            self.element(child);
        }
    }

    fn identity(&mut self, node: Node<'_, '_>) {
        let audience = attribute(node, "resource")
            .unwrap_or_else(|| "https://cognitiveservices.azure.com".to_owned());
        let client_id =
            attribute(node, "client-id").filter(|id| !id.contains("{{") && !id.contains('@'));
        if attribute(node, "client-id").is_some() && client_id.is_none() {
            self.remark(node, "<authentication-managed-identity>: client-id is a named value; write it into `auth`");
        }
        if let Some(variable) = attribute(node, "output-token-variable-name") {
            self.variables
                .insert(variable, Expr::Name(OWN_TOKEN.to_owned()));
        }
        let audience = audience.trim_end_matches('/').to_owned();
        self.policy.identity = Some((audience, client_id));
    }

    fn version(&mut self, node: Node<'_, '_>) {
        let value = node.children().find(|child| child.has_tag_name("value"));
        let value = value
            .and_then(|value| value.text())
            .map(raw::restored)
            .unwrap_or_default();
        match value.contains(['@', '{']) || value.trim().is_empty() {
            true => self.remark(
                node,
                "<set-query-parameter> api-version: its value is known only when it runs",
            ),
            false => self.policy.api_version = Some(value.trim().to_owned()),
        }
    }

    /// The gateway's own credential goes upstream and the caller's doesn't, so headers that see to that say nothing new.
    fn set_header(&mut self, node: Node<'_, '_>) {
        let name = attribute(node, "name").unwrap_or_default();
        let is_credential = ["api-key", "authorization", "ocp-apim-subscription-key"]
            .contains(&name.to_ascii_lowercase().as_str());
        let is_removed = node.attribute("exists-action") == Some("delete");
        let value = node.children().find(|child| child.has_tag_name("value"));
        let value = value
            .and_then(|value| value.text())
            .map(raw::restored)
            .unwrap_or_default();
        let names_own = self.variables.iter().any(|(variable, value_of)| {
            *value_of == Expr::Name(OWN_TOKEN.to_owned()) && value.contains(variable.as_str())
        });
        if is_credential && (is_removed || names_own) {
            return;
        }
        let advice = match is_credential {
            true => "set the credential as `auth` of the backend",
            false => "headers aren't changed",
        };
        self.remark(node, format!("<set-header> \"{name}\": {advice}"));
    }

    fn tokens(&mut self, node: Node<'_, '_>) {
        if let Some(variable) = attribute(node, "output-token-variable-name") {
            self.variables
                .insert(variable, Expr::Name(TOKEN.to_owned()));
        }
        self.policy.tokens = Some(tokens::read(node));
    }
}

/// What holds outside, none of what was tried before, and this.
fn conjunction(
    outer: &Result<Vec<String>, String>,
    before: &Result<Vec<String>, String>,
    own: Result<&Option<String>, &String>,
) -> Result<Vec<String>, String> {
    let mut all = outer.clone()?;
    all.extend(before.clone()?);
    all.extend(own.map_err(Clone::clone)?.clone());
    Ok(all)
}

/// What a variable holds that the gateway's own token was put into.
const OWN_TOKEN: &str = "$own";

/// What to do instead, where there is something.
const OTHERS: [(&str, &str); 14] = [
    (
        "rate-limit",
        "calls aren't counted, tokens are: see [[token-limit]]; [server.limits] max-concurrent-requests bounds calls at once",
    ),
    (
        "rate-limit-by-key",
        "calls aren't counted, tokens are: see [[token-limit]]",
    ),
    (
        "quota",
        "calls aren't counted, tokens are: see token-quota of [[token-limit]]",
    ),
    (
        "quota-by-key",
        "calls aren't counted, tokens are: see token-quota of [[token-limit]]",
    ),
    (
        "content-safety",
        "there is no content filter here; the model's own stays in force",
    ),
    (
        "return-response",
        "answers aren't made by configuration; models outside of the product get 403",
    ),
    (
        "check-header",
        "ask for a key or a token instead: see [subscriptions] and [jwt]",
    ),
    (
        "ip-filter",
        "addresses aren't filtered here; leave that to the network",
    ),
    (
        "include-fragment",
        "import the fragment's own file too, and put the tables together",
    ),
    (
        "emit-metric",
        "only tokens are counted by configuration; see docs/operating.md for the metrics that are always there",
    ),
    ("trace", "see [access-log] and [otlp]"),
    (
        "cors",
        "browsers' cross-origin calls aren't answered; put a web server before the gateway",
    ),
    ("set-body", "bodies go through as they are"),
    (
        "log-to-eventhub",
        "see [usage-log], which can go to a Redis stream",
    ),
];
