//! `validate-azure-ad-token` and `validate-jwt`: whose tokens are taken.

use roxmltree::Node;

use super::asked::Tokens;
use super::raw;
use super::read::attribute;

/// Reads either.
pub fn read(node: Node<'_, '_>) -> Tokens {
    let tenant = attribute(node, "tenant-id");
    let mut tokens = Tokens {
        issuer: tenant.map(|tenant| format!("https://login.microsoftonline.com/{tenant}/v2.0")),
        ..Tokens::default()
    };
    for child in node.descendants().filter(Node::is_element) {
        let text = |of: Node<'_, '_>| raw::restored(of.text().unwrap_or_default().trim());
        match child.tag_name().name() {
            "openid-config" => {
                let url = attribute(child, "url").unwrap_or_default();
                tokens.issuer = url.split("/.well-known/").next().map(str::to_owned);
            }
            "audience" => tokens.audiences.push(text(child)),
            "application-id" => {
                push_claim(&mut tokens.claims, "appid", text(child));
                tokens.any_of.push("appid".to_owned());
            }
            "claim" => {
                let name = attribute(child, "name").unwrap_or_default();
                if attribute(child, "match").is_some_and(|how| how == "any") {
                    tokens.any_of.push(name.clone());
                }
                let values = child.children().filter(|value| value.has_tag_name("value"));
                values.for_each(|value| push_claim(&mut tokens.claims, &name, text(value)));
            }
            _ => {}
        }
    }
    tokens
}

fn push_claim(claims: &mut Vec<(String, Vec<String>)>, name: &str, value: String) {
    match claims.iter_mut().find(|(known, _)| known == name) {
        Some((_, values)) => values.push(value),
        None => claims.push((name.to_owned(), vec![value])),
    }
}
