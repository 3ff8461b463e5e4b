//! A policy as the text of a configuration.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::super::arm::Backends;
use super::super::toml_text::{array, comment, key, text};
use super::PolicyArguments;
use super::asked::{Policy, Position, Remark, Tokens};
use super::backends::{Upstream, upstream};
use super::tables::{Table, semantic_cache, token_limit, token_metric};

/// What is printed, and of what.
pub struct File<'f> {
    pub arguments: &'f PolicyArguments,
    pub policy: &'f Policy,
    pub found: &'f Backends,
    pub endpoint: Option<&'f str>,
    pub key_hash: &'f str,
}

/// The file, and what a person should look at.
#[derive(Debug, Default)]
pub struct Printed {
    pub text: String,
    pub remarks: Vec<Remark>,
}

impl File<'_> {
    /// The whole file.
    pub fn print(&self) -> Printed {
        let mut printed = Printed::default();
        printed.text.push_str(&comment(&format!(
            "Printed by `tollgate import apim-policy` from {}.\n\
             The subscription's key was shown once, where the command ran; here is its hash.",
            self.arguments.file
        )));
        let upstream = upstream(self);
        self.push_remarks(&mut printed, &upstream);
        self.push_api(&mut printed.text, &upstream);
        self.push_callers(&mut printed.text);
        printed.text.push_str(&upstream.text);
        self.push_tables(&mut printed);
        printed.remarks.sort_by_key(|remark| remark.at);
        printed
    }

    /// What belongs to no table.
    fn push_remarks(&self, printed: &mut Printed, upstream: &Upstream) {
        let retry = self
            .policy
            .retry
            .as_ref()
            .and_then(|retry| retry.differs.as_ref());
        let retry = retry.map(|said| Remark {
            at: (0, 0),
            said: format!("<retry> {said}"),
        });
        let all = self
            .policy
            .remarks
            .iter()
            .chain(&retry)
            .chain(&upstream.remarks);
        printed.remarks.extend(all.cloned());
        let own = self.policy.remarks.iter().chain(&retry);
        let lines: Vec<String> = own
            .map(|remark| match remark.at {
                (0, _) => remark.said.clone(),
                (line, _) => format!("line {line}: {}", remark.said),
            })
            .collect();
        if !lines.is_empty() {
            printed.text.push_str(&comment(&format!(
                "\nNot taken over:\n{}",
                lines.join("\n")
            )));
        }
    }

    fn push_api(&self, out: &mut String, upstream: &Upstream) {
        let name = key(&self.arguments.name);
        let models = upstream
            .models
            .iter()
            .map(|(model, pool)| format!("{} = {}", text(model), text(pool)));
        let models: Vec<String> = models.collect();
        let _ = write!(
            out,
            "\n[apis.{name}]\npath = \"/openai\"\nschema = \"azure-openai\"\nmodels = {{ {} }}\n",
            models.join(", ")
        );
        if let Some((_, pool)) = upstream.models.iter().find(|(model, _)| model == "*") {
            let _ = writeln!(out, "default-pool = {}", text(pool));
        }
    }

    fn push_callers(&self, out: &mut String) {
        let name = key(&self.arguments.name);
        for product in self.products() {
            let apis = array(std::iter::once(text(&self.arguments.name)));
            let _ = write!(out, "\n[products.{}]\napis = {apis}\n", key(&product));
        }
        let _ = write!(
            out,
            "\n[subscriptions.{name}]\nkeys = [{{ sha256 = {} }}]\n",
            text(self.key_hash)
        );
        if let Some(product) = self.products().first() {
            out.push_str(&comment(&format!("product = {}", text(product))));
        }
        if let Some(tokens) = &self.policy.tokens {
            push_tokens(out, tokens);
        }
    }

    /// The products that conditions name.
    fn products(&self) -> BTreeSet<String> {
        let Policy { limits, caches, .. } = self.policy;
        let elements = limits.iter().chain(caches);
        let conditions = elements.filter_map(|element| element.when.as_ref().ok()?.as_deref());
        let mut products = BTreeSet::new();
        for condition in conditions {
            let named = condition.split("product.id == \"").skip(1);
            products.extend(
                named
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_owned),
            );
        }
        products.remove("");
        products
    }

    fn push_tables(&self, printed: &mut Printed) {
        let Policy {
            limits,
            metrics,
            caches,
            ..
        } = self.policy;
        let name = &self.arguments.name;
        for (number, element) in (1..).zip(limits) {
            push_table(
                printed,
                element.at,
                &self.judged(token_limit(element, &format!("{name}-tokens-{number}"))),
            );
        }
        let mut namespaces = Vec::new();
        for element in metrics {
            push_table(
                printed,
                element.at,
                &self.judged(token_metric(element, &mut namespaces)),
            );
        }
        let duration = self.policy.cache_duration.as_deref();
        for (number, element) in (1..).zip(caches) {
            let table = semantic_cache(element, &format!("{name}-answers-{number}"), duration);
            push_table(printed, element.at, &self.judged(table));
        }
    }

    /// Claims can be asked for only where tokens are checked.
    fn judged(&self, mut table: Table) -> Table {
        let is_claim = |line: &String| {
            ["jwt.", "jwt[", "in jwt"]
                .iter()
                .any(|name| line.contains(name))
        };
        if self.policy.tokens.is_none() && table.lines.iter().any(is_claim) {
            table.faults.push(
                "it asks for a token's claims, and no policy here checks tokens: add [jwt]"
                    .to_owned(),
            );
        }
        table
    }
}

fn push_table(printed: &mut Printed, at: Position, table: &Table) {
    let out = &mut printed.text;
    out.push('\n');
    for said in table.faults.iter().chain(&table.remarks) {
        out.push_str(&comment(&format!("line {}: {said}", at.0)));
        let said = format!("{}: {said}", table.header.trim_matches(['[', ']']));
        printed.remarks.push(Remark { at, said });
    }
    let lines = format!("{}\n{}\n", table.header, table.lines.join("\n"));
    match table.faults.is_empty() {
        true => out.push_str(&lines),
        false => {
            out.push_str("# Not in force until that is mended:\n");
            out.push_str(&comment(&lines));
        }
    }
}

fn push_tokens(out: &mut String, tokens: &Tokens) {
    out.push_str("\n[jwt]\n");
    match &tokens.issuer {
        Some(issuer) if !issuer.contains(['{', '@']) => {
            let _ = writeln!(out, "issuer = {}", text(issuer));
        }
        Some(_) | None => {
            out.push_str(&comment(
                "The issuer is known only when it runs: write yours.",
            ));
            out.push_str("issuer = \"https://login.microsoftonline.com/REPLACE/v2.0\"\n");
        }
    }
    match tokens.audiences.is_empty() {
        true => {
            out.push_str(&comment("The policy names no audience, and a token must be meant for somebody: write yours."));
            out.push_str("audience = \"REPLACE\"\n");
        }
        false => {
            let _ = writeln!(
                out,
                "audience = {}",
                array(tokens.audiences.iter().map(|audience| text(audience)))
            );
        }
    }
    let one_is_enough = tokens
        .claims
        .iter()
        .filter(|(name, values)| values.len() > 1 && tokens.any_of.contains(name));
    for (name, _) in one_is_enough {
        out.push_str(&comment(&format!(
            "There one of the values of `{name}` is enough, here a token must hold all of them: leave one, or write subscription = 'jwt.{name}' and give each its subscription."
        )));
    }
    if !tokens.claims.is_empty() {
        let claim = |(name, values): &(String, Vec<String>)| {
            format!(
                "{} = {}",
                key(name),
                array(values.iter().map(|value| text(value)))
            )
        };
        let claims: Vec<String> = tokens.claims.iter().map(claim).collect();
        let _ = writeln!(out, "required-claims = {{ {} }}", claims.join(", "));
    }
}
