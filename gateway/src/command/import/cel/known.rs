//! What API Management's expressions are made of, as far as it is known here: names, and how they are written.

use super::super::csharp::Expr;

/// What a variable holds that a token was put into.
pub const TOKEN: &str = "$token";

/// Members of `context`, and what stands for each.
pub(super) const MEMBERS: [(&str, &str); 22] = [
    ("context.Subscription.Id", "subscription.id"),
    ("context.Subscription.Name", "subscription.id"),
    ("context.Product.Id", "product.id"),
    ("context.Product.Name", "product.id"),
    ("context.Api.Id", "api.id"),
    ("context.Api.Name", "api.id"),
    ("context.Operation.Id", "operation.id"),
    ("context.Operation.Name", "operation.id"),
    ("context.Request.IpAddress", "request.ip"),
    ("context.Request.Method", "request.method"),
    ("context.Request.Url.Path", "request.path"),
    ("context.Request.OriginalUrl.Path", "request.path"),
    ("context.Request.Foundry.Deployment", "request.model"),
    ("context.Response.StatusCode", "response.status"),
    ("context.Backend.Id", "backend.id"),
    ("context.Deployment.Region", "gateway.location"),
    ("context.Deployment.GatewayId", "gateway.id"),
    ("context.Deployment.ServiceName", "gateway.id"),
    ("context.Deployment.ServiceId", "gateway.id"),
    ("context.Deployment.Gateway.Id", "gateway.id"),
    ("string.Empty", "\"\""),
    ("String.Empty", "\"\""),
];

/// `context.Subscription.Id` of members all the way down.
pub fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Name(name) => Some(name.clone()),
        Expr::Member(of, name) => Some(format!("{}.{name}", dotted(of)?)),
        Expr::Text(_)
        | Expr::Number(_)
        | Expr::Truth(_)
        | Expr::Null
        | Expr::Call(..)
        | Expr::Index(..)
        | Expr::Binary(..)
        | Expr::Not(_)
        | Expr::Choice(..) => None,
    }
}

/// Text as CEL writes it.
pub fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "\"{}\"",
        text.replace('\n', "\\n")
            .replace('\r', "\\r")
            .replace('\t', "\\t")
    )
}

/// Whether it is all of the variables that the policy has set.
pub(super) fn is_variables(expr: &Expr) -> bool {
    dotted(expr).as_deref() == Some("context.Variables")
}

/// Members that give what they are asked of.
pub(super) fn is_value(name: &str) -> bool {
    name == "Value"
}

/// Parameters of a path that name the deployment.
pub(super) fn is_deployment(key: &str) -> bool {
    matches!(
        key,
        "deployment-id" | "deployment_id" | "deploymentId" | "deployment"
    )
}

/// `string`, whose members are functions.
pub(super) fn is_string_type(expr: &Expr) -> bool {
    matches!(expr, Expr::Name(name) if name == "string" || name == "String")
}
