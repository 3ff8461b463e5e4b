//! `tollgate import apim-policy`: policies as Microsoft's labs use them (their attributes, in documents of our own) become
//! files that check; what has no counterpart is told with its place.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/support.rs"]
mod support;

use std::io::Write;
use std::process::Stdio;

use support::command::{Finished, tollgate};

/// TPM per subscription, as the lab on rate limiting has it.
const RATE: &str = r#"<policies>
  <inbound>
    <base />
    <set-backend-service backend-id="openai-backend-pool" />
    <azure-openai-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="100"
        estimate-prompt-tokens="false" remaining-tokens-variable-name="remainingTokens" />
    <authentication-managed-identity resource="https://cognitiveservices.azure.com" output-token-variable-name="managed-id-access-token" ignore-error="false" />
    <set-header name="Authorization" exists-action="override">
      <value>@("Bearer " + (string)context.Variables["managed-id-access-token"])</value>
    </set-header>
  </inbound>
  <backend><base /></backend>
  <outbound><base /></outbound>
  <on-error><base /></on-error>
</policies>"#;

#[test]
fn a_rate_of_tokens_becomes_a_token_limit() {
    let imported = import(RATE, None, &["--api-key-env", "KEY"]);
    checks(&imported);
    let table = table(&imported);
    let limit = &table["token-limit"][0];
    assert_eq!(limit["counter-key"].as_str(), Some("subscription.id"));
    assert_eq!(limit["tokens-per-minute"].as_integer(), Some(100));
    assert_eq!(
        table["apis"]["imported"]["models"]["*"].as_str(),
        Some("openai-backend-pool")
    );
    told(
        &imported,
        &[
            "5:5: token-limit: remaining-tokens-variable-name: there are no variables; remaining-tokens-header-name tells it in the answer",
        ],
    );
    assert!(
        !imported.stderr.contains("set-header"),
        "{}",
        imported.stderr
    );
}

/// Without `--api-key-env` the policy's own credential is kept.
#[test]
fn a_managed_identity_stays_one() {
    let imported = import(
        RATE,
        None,
        &["--endpoint", "https://contoso.openai.azure.com/"],
    );
    checks(&imported);
    let table = table(&imported);
    let backend = &table["backends"]["openai-backend-pool"];
    assert_eq!(
        backend["url"].as_str(),
        Some("https://contoso.openai.azure.com")
    );
    assert_eq!(
        backend["auth"]["managed-identity"]["resource"].as_str(),
        Some("https://cognitiveservices.azure.com")
    );
}

/// Dimensions, one of them with a default and a header's value, quotes unescaped.
#[test]
fn token_metrics_keep_their_dimensions() {
    let imported = import(
        r#"<policies><inbound>
    <azure-openai-emit-token-metric namespace="openai">
        <dimension name="Subscription ID" value="@(context.Subscription.Id)" />
        <dimension name="Client IP" value="@(context.Request.IpAddress)" />
        <dimension name="API ID" />
        <dimension name="User ID" value="@(context.Request.Headers.GetValueOrDefault("x-user-id", "N/A"))" />
        <dimension name="Mail" value="@(context.User.Email)" />
    </azure-openai-emit-token-metric>
</inbound></policies>"#,
        None,
        &["--api-key-env", "KEY"],
    );
    checks(&imported);
    let table = table(&imported);
    let metric = &table["token-metric"][0];
    assert_eq!(metric["namespace"].as_str(), Some("openai"));
    let dimensions: Vec<(&str, Option<&str>)> = metric["dimensions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["name"].as_str().unwrap(),
                one.get("value").and_then(toml::Value::as_str),
            )
        })
        .collect();
    let user = "(\"x-user-id\" in request.headers ? request.headers[\"x-user-id\"] : \"N/A\")";
    assert_eq!(
        dimensions,
        [
            ("subscription_id", Some("subscription.id")),
            ("client_ip", Some("request.ip")),
            ("api_id", None),
            ("user_id", Some(user)),
        ]
    );
    told(
        &imported,
        &[
            "2:5: token-metric: dimension \"Mail\" value=\"@(context.User.Email)\": `context.User.Email` has no counterpart",
        ],
    );
}

/// A pool of three priorities, breakers that accept Retry-After, two retries: from a template as Bicep compiles it.
#[test]
fn pools_breakers_and_retries_are_those_of_the_template() {
    let imported = import(
        r#"<policies>
  <inbound><base />
    <set-backend-service backend-id="openai-backend-pool" />
    <set-query-parameter name="api-version" exists-action="skip"><value>2024-10-21</value></set-query-parameter>
  </inbound>
  <backend>
    <!-- members - 1 -->
    <retry count="2" interval="0" first-fast-retry="true" condition="@(context.Response.StatusCode == 429 || (context.Response.StatusCode == 503 && !context.Response.StatusReason.Contains("Backend pool")))">
      <forward-request buffer-request-body="true" />
    </retry>
  </backend>
  <outbound><base /></outbound>
  <on-error><base />
    <choose><when condition="@(context.Response.StatusCode == 503)"><return-response><set-status code="503" /></return-response></when></choose>
  </on-error>
</policies>"#,
        Some(TEMPLATE),
        &["--api-key-env", "KEY", "--name", "lab"],
    );
    checks(&imported);
    told(
        &imported,
        &[
            "8:5: <retry>: condition: it asks about more than the status; the default is kept",
            "14:69: <return-response>: answers aren't made by configuration; models outside of the product get 403",
        ],
    );
    let table = table(&imported);
    let members: Vec<(&str, i64, i64)> = table["pools"]["openai-backend-pool"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let number = |key: &str| one[key].as_integer().unwrap();
            (
                one["backend"].as_str().unwrap(),
                number("priority"),
                number("weight"),
            )
        })
        .collect();
    assert_eq!(
        members,
        [
            ("openai-uks", 1, 1),
            ("openai-swe", 2, 50),
            ("openai-fra", 2, 50),
            ("openai-usa", 3, 1)
        ]
    );
    let backend = &table["backends"]["openai-uks"];
    assert_eq!(
        backend["url"].as_str(),
        Some("https://uks.openai.azure.com")
    );
    assert_eq!(backend["api-version"].as_str(), Some("2024-10-21"));
    let breaker = &backend["circuit-breaker"];
    assert_eq!(breaker["trip-duration"].as_str(), Some("60s"));
    assert_eq!(breaker["accept-retry-after"].as_bool(), Some(true));
    assert_eq!(breaker["failure-condition"]["count"].as_integer(), Some(1));
    assert_eq!(
        breaker["failure-condition"]["status-code-ranges"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // Its URL is known to the deployment alone.
    assert_eq!(
        table["backends"]["openai-usa"]["url"].as_str(),
        Some("https://REPLACE.openai.azure.com")
    );
}

#[test]
fn a_retry_after_statuses_becomes_the_pools() {
    let imported = import(
        r#"<policies><inbound><set-backend-service base-url="https://uks.openai.azure.com/openai" /></inbound>
<backend><retry count="3" interval="1" max-interval="10" delta="1" condition="@(context.Response != null && (context.Response.StatusCode == 429 || context.Response.StatusCode >= 500))">
<forward-request timeout="60" /></retry></backend></policies>"#,
        None,
        &["--api-key-env", "KEY"],
    );
    checks(&imported);
    let table = table(&imported);
    let pool = &table["pools"]["imported-1"];
    assert_eq!(pool["retry"]["count"].as_integer(), Some(3));
    assert_eq!(
        pool["retry"]["status-code-ranges"].to_string(),
        "[[429, 429], [500, 599]]"
    );
    assert_eq!(
        table["backends"]["imported-1"]["timeouts"]["first-byte"].as_str(),
        Some("60s")
    );
    told(
        &imported,
        &["<retry> interval: another member is asked at once, without waiting"],
    );
}

/// The loose threshold of the lab, the order look-up and store, and the partition.
#[test]
fn a_semantic_cache_keeps_its_threshold_partition_and_duration() {
    let policy = r#"<policies><inbound><set-backend-service backend-id="chat" />
<azure-openai-semantic-cache-lookup score-threshold="0.8" embeddings-backend-id="embeddings-backend" embeddings-backend-auth="system-assigned" ignore-system-messages="true" max-message-count="10">
  <vary-by>@(context.Subscription.Id)</vary-by>
</azure-openai-semantic-cache-lookup></inbound>
<outbound><azure-openai-semantic-cache-store duration="120" /></outbound></policies>"#;
    let imported = import(policy, Some(EMBEDDINGS), &["--api-key-env", "KEY"]);
    checks(&imported);
    let table = table(&imported);
    let cache = &table["semantic-cache"][0];
    assert_eq!(cache["vary-by"].to_string(), "[\"subscription.id\"]");
    assert_eq!(
        (
            cache["score-threshold"].as_float(),
            cache["duration"].as_str()
        ),
        (Some(0.8), Some("120s"))
    );
    assert_eq!(cache["max-message-count"].as_integer(), Some(10));
    let backend = &table["backends"]["embeddings-backend"];
    assert_eq!(
        backend["deployment"].as_str(),
        Some("text-embedding-3-small")
    );
    told(
        &imported,
        &["2:1: semantic-cache: score-threshold 0.8 is a distance"],
    );

    // A partition that can't be told would share answers: the cache isn't in force then.
    let imported = import(
        &policy.replace("context.Subscription.Id", "context.User.Id"),
        Some(EMBEDDINGS),
        &["--api-key-env", "KEY"],
    );
    checks(&imported);
    assert!(self::table(&imported).get("semantic-cache").is_none());
    assert!(
        imported.stdout.contains("# [[semantic-cache]]\n"),
        "{}",
        imported.stdout
    );
}

/// A limit and a quota for each product, as the lab on FinOps has them.
#[test]
fn limits_by_product_keep_their_conditions() {
    let limit = |product: &str, rate: &str| {
        format!(
            r#"<when condition="@(context.Product.Id == "{product}")">
        <llm-token-limit counter-key="@(context.Subscription.Id)" tokens-per-minute="{rate}" estimate-prompt-tokens="true" token-quota="1000000" token-quota-period="Monthly" remaining-quota-tokens-header-name="x-left" retry-after-header-name="x-wait" consumed-tokens-header-name="x-used" /></when>"#
        )
    };
    let policy = format!(
        r#"<policies><inbound><set-backend-service backend-id="chat" /><choose>{}{}{}<otherwise>
        <llm-token-limit counter-key="everybody else" tokens-per-minute="10" /></otherwise></choose></inbound></policies>"#,
        limit("platinum", "2000"),
        limit("gold", "1000"),
        limit("silver", "500")
    );
    let imported = import(&policy, None, &["--api-key-env", "KEY"]);
    checks(&imported);
    let table = table(&imported);
    let limits = table["token-limit"].as_array().unwrap();
    let when: Vec<&str> = limits
        .iter()
        .map(|limit| limit["when"].as_str().unwrap())
        .collect();
    assert_eq!(when[0], "product.id == \"platinum\"");
    assert_eq!(
        when[1],
        "(!(product.id == \"platinum\")) && (product.id == \"gold\")"
    );
    assert_eq!(when[3].matches("!(").count(), 3);
    assert_eq!(limits[1]["token-quota-period"].as_str(), Some("monthly"));
    assert_eq!(
        limits[1]["tokens-consumed-header-name"].as_str(),
        Some("x-used")
    );
    assert_eq!(
        limits[3]["counter-key"].as_str(),
        Some("\"everybody else\"")
    );
    assert!(table["products"].get("silver").is_some());
}

/// Models by their names, as the lab on model routing has them: from the path or from the body.
#[test]
fn routes_by_the_model_become_models() {
    let imported = import(
        r#"<policies><inbound>
  <set-variable name="model" value="@((string)context.Request.Body.As<JObject>(preserveContent: true)["model"])" />
  <choose>
    <when condition="@((string)context.Variables["model"] == "gpt-4.1" || (string)context.Variables["model"] == "gpt-4.1-mini")">
      <set-backend-service backend-id="one" />
    </when>
    <when condition="@(((string)context.Variables["model"]).StartsWith("gpt-4o"))">
      <return-response><set-status code="403" reason="Forbidden" /></return-response>
    </when>
    <when condition="@(context.Request.Headers.GetValueOrDefault("x-tier","") == "ptu")"><set-backend-service backend-id="ptu" /></when>
    <otherwise><set-backend-service backend-id="@((string)context.Variables["b"])" /></otherwise>
  </choose>
</inbound></policies>"#,
        None,
        &["--api-key-env", "KEY"],
    );
    checks(&imported);
    let table = table(&imported);
    let models = table["apis"]["imported"]["models"].as_table().unwrap();
    assert_eq!(models.len(), 2);
    assert_eq!(models["gpt-4.1-mini"].as_str(), Some("one"));
    told(
        &imported,
        &[
            "8:7: <return-response>: answers aren't made by configuration",
            "10:90: <set-backend-service> to \"ptu\": its condition isn't about the model alone",
            "11:16: <set-backend-service>: \"@((string)context.Variables[\"b\"])\" is known only when it runs",
        ],
    );
}

/// Who may call, by token: the table is there, and limits may count by claims.
#[test]
fn tokens_that_are_checked_may_be_counted_by() {
    let policy = r#"<policies><inbound><set-backend-service backend-id="chat" />
  <validate-azure-ad-token tenant-id="11111111-2222-3333-4444-555555555555" output-token-variable-name="jwt">
    <client-application-ids><application-id>app-1</application-id></client-application-ids>
    <audiences><audience>api://tollgate</audience></audiences>
  </validate-azure-ad-token>
  <llm-token-limit counter-key="@("tpm-" + ((Jwt)context.Variables["jwt"]).Claims["oid"].FirstOrDefault())" tokens-per-minute="1000" />
</inbound></policies>"#;
    let imported = import(policy, None, &["--api-key-env", "KEY"]);
    checks(&imported);
    let table = table(&imported);
    assert_eq!(
        table["jwt"]["issuer"].as_str(),
        Some("https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0")
    );
    assert_eq!(table["jwt"]["audience"].to_string(), "[\"api://tollgate\"]");
    assert_eq!(
        table["token-limit"][0]["counter-key"].as_str(),
        Some("\"tpm-\" + jwt.oid")
    );

    // Without the check there is nothing to count by.
    let start = policy.find("  <validate").unwrap();
    let end =
        policy.find("</validate-azure-ad-token>").unwrap() + "</validate-azure-ad-token>".len();
    let unchecked = format!("{}{}", &policy[..start], &policy[end..]);
    let unchecked = unchecked.replace(
        "((Jwt)context.Variables[\"jwt\"])",
        "context.Request.Headers.GetValueOrDefault(\"Authorization\",\"\").AsJwt()",
    );
    let imported = import(&unchecked, None, &["--api-key-env", "KEY"]);
    checks(&imported);
    assert!(self::table(&imported).get("token-limit").is_none());
    assert!(
        imported
            .stderr
            .contains("no policy here checks tokens: add [jwt]"),
        "{}",
        imported.stderr
    );
}

/// Any issuer's tokens; where one of several values is enough there, the file says that all are asked for here.
#[test]
fn tokens_of_any_issuer_are_checked_by_its_claims() {
    let policy = r#"<policies><inbound><set-backend-service backend-id="chat" />
  <validate-jwt header-name="Authorization" failed-validation-httpcode="401" require-expiration-time="true">
    <openid-config url="https://issuer.example/tenant/.well-known/openid-configuration" />
    <audiences><audience>api://one</audience><audience>api://two</audience></audiences>
    <required-claims>
      <claim name="scp" match="all"><value>llm.call</value></claim>
      <claim name="roles" match="any"><value>reader</value><value>writer</value></claim>
    </required-claims>
  </validate-jwt>
</inbound></policies>"#;
    let imported = import(policy, None, &["--api-key-env", "KEY"]);
    checks(&imported);
    let jwt = &table(&imported)["jwt"];
    assert_eq!(
        jwt["issuer"].as_str(),
        Some("https://issuer.example/tenant")
    );
    assert_eq!(jwt["audience"].to_string(), r#"["api://one", "api://two"]"#);
    let required = &jwt["required-claims"];
    assert_eq!(required["scp"].to_string(), r#"["llm.call"]"#);
    assert_eq!(required["roles"].to_string(), r#"["reader", "writer"]"#);
    let said = "# There one of the values of `roles` is enough";
    assert!(imported.stdout.contains(said), "{}", imported.stdout);
    assert!(!imported.stdout.contains("of `scp`"));
}

/// All in one, as the lab from zero to production puts it together.
#[test]
fn what_has_no_counterpart_is_told_with_its_place_and_the_rest_is_in_force() {
    let imported = import(
        r#"<policies><inbound>
  <llm-content-safety backend-id="safety" shield-prompt="true" />
  <llm-token-limit counter-key="@(context.Request.Foundry.Deployment)" tokens-per-minute="@(1000)" />
  <llm-token-limit counter-key="@{ var a = 1; return a; }" tokens-per-minute="10" />
  <rate-limit calls="5" renewal-period="60" />
  <llm-token-limit counter-key="@(context.Subscription?.Id + "-" + context.Request.MatchedParameters.GetValueOrDefault("deployment-id", "none"))" token-quota="5" token-quota-period="Hourly" />
</inbound></policies>"#,
        None,
        &["--api-key-env", "KEY"],
    );
    checks(&imported);
    told(
        &imported,
        &[
            "2:3: <llm-content-safety>: there is no content filter here",
            "3:3: token-limit: tokens-per-minute=\"@(1000)\": expected a number",
            "4:3: token-limit: counter-key=\"@{ var a = 1; return a; }\": ",
            "5:3: <rate-limit>: calls aren't counted, tokens are",
        ],
    );
    let table = table(&imported);
    let limits = table["token-limit"].as_array().unwrap();
    assert_eq!(limits.len(), 1);
    assert_eq!(
        limits[0]["counter-key"].as_str(),
        Some("subscription.id + \"-\" + request.model")
    );
    assert_eq!(imported.stdout.matches("# [[token-limit]]\n").count(), 2);
}

#[test]
fn what_is_no_policy_is_told_with_its_place() {
    let cases = [
        (
            "<policies>\n  <inbound>\n</policies>",
            "3:1: not XML: expected 'inbound' tag, not 'policies'",
        ),
        ("<policies><a b=\"@(c < d\" /></policies>", "1:"),
        (
            "\n<html/>",
            "2:1: found <html>, expected <policies> or <fragment>",
        ),
        ("", "1:1: not XML: "),
    ];
    for (policy, said) in cases {
        let imported = import(policy, None, &[]);
        assert_eq!(
            (imported.status, imported.stdout.as_str()),
            (Some(2), ""),
            "{policy}"
        );
        assert!(
            imported.stderr.starts_with(&format!("FILE:{said}")),
            "{policy}\n{}",
            imported.stderr
        );
    }
    let imported = import(RATE, Some("{"), &[]);
    assert_eq!(imported.status, Some(2));
    assert!(
        imported.stderr.contains(":1:1: not JSON: "),
        "{}",
        imported.stderr
    );
}

fn import(policy: &str, template: Option<&str>, arguments: &[&str]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.xml");
    std::fs::write(&file, policy).unwrap();
    let mut command = tollgate();
    command
        .args(["import", "apim-policy"])
        .arg(&file)
        .args(arguments);
    if let Some(template) = template {
        let backends = folder.path().join("backends.json");
        std::fs::write(&backends, template).unwrap();
        command.arg("--backends").arg(backends);
    }
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes)
            .unwrap()
            .replace(file.to_str().unwrap(), "FILE")
    };
    Finished {
        status: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// `check` takes what was printed. What it warns of is in its summary, which isn't judged here.
fn checks(imported: &Finished) {
    assert_eq!(imported.status, Some(0), "{}", imported.stderr);
    let mut child = tollgate()
        .args(["check", "--config", "-"])
        .env("KEY", "k")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(imported.stdout.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        (output.status.code(), errors.as_ref()),
        (Some(0), ""),
        "{}",
        imported.stdout
    );
}

fn told(imported: &Finished, remarks: &[&str]) {
    for remark in remarks {
        let is_told = imported.stderr.lines().any(|line| {
            let line = line.strip_prefix("note: ").unwrap_or(line);
            line.strip_prefix("FILE:")
                .unwrap_or(line)
                .starts_with(remark)
        });
        assert!(is_told, "{remark}\n{}", imported.stderr);
        let said = remark.rsplit_once(": ").map_or(*remark, |(_, said)| said);
        let comments = imported.stdout.lines().filter(|line| line.starts_with('#'));
        let is_there = comments.into_iter().any(|line| line.contains(said));
        assert!(is_there, "{said}\n{}", imported.stdout);
    }
}

fn table(imported: &Finished) -> toml::Table {
    imported
        .stdout
        .parse()
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", imported.stdout, imported.stderr))
}

const TEMPLATE: &str = r#"{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "languageVersion": "2.0",
  "parameters": { "apimServiceName": { "type": "string" } },
  "resources": {
    "uks": { "type": "Microsoft.ApiManagement/service/backends", "apiVersion": "2024-06-01-preview",
      "name": "[format('{0}/{1}', parameters('apimServiceName'), 'openai-uks')]",
      "properties": { "url": "https://uks.openai.azure.com/openai", "protocol": "http",
        "circuitBreaker": { "rules": [ { "failureCondition": { "count": 1, "errorReasons": [ "Server errors" ], "interval": "PT1M",
          "statusCodeRanges": [ { "min": 429, "max": 429 } ] }, "name": "openAIBreakerRule", "tripDuration": "PT1M", "acceptRetryAfter": true } ] } } },
    "swe": { "type": "Microsoft.ApiManagement/service/backends", "name": "[format('{0}/{1}', parameters('apimServiceName'), 'openai-swe')]",
      "properties": { "url": "https://swe.openai.azure.com/openai", "protocol": "http",
        "circuitBreaker": { "rules": [ { "failureCondition": { "percentage": 50, "interval": "PT30S" }, "tripDuration": "PT10S" } ] } } },
    "fra": { "type": "Microsoft.ApiManagement/service/backends", "name": "x/openai-fra", "properties": { "url": "https://fra.openai.azure.com/openai", "protocol": "http" } },
    "usa": { "type": "Microsoft.ApiManagement/service/backends", "name": "x/openai-usa", "properties": { "url": "[format('{0}openai', reference('usa').endpoint)]", "protocol": "http" } },
    "pool": { "type": "Microsoft.ApiManagement/service/backends", "name": "[format('{0}/{1}', parameters('apimServiceName'), 'openai-backend-pool')]",
      "properties": { "type": "Pool", "pool": { "services": [
        { "id": "/backends/openai-uks", "priority": 1 },
        { "id": "[resourceId('Microsoft.ApiManagement/service/backends', 'x', 'openai-swe')]", "priority": 2, "weight": 50 },
        { "id": "/backends/openai-fra", "priority": 2, "weight": 50 },
        { "id": "/backends/openai-usa", "priority": 3 } ] } } }
  }
}"#;

const EMBEDDINGS: &str = r#"{ "resources": [
  { "type": "Microsoft.ApiManagement/service/backends", "name": "x/embeddings-backend",
    "properties": { "url": "https://uks.openai.azure.com/openai/deployments/text-embedding-3-small/embeddings", "protocol": "http" } },
  { "type": "Microsoft.ApiManagement/service/backends", "name": "x/chat",
    "properties": { "url": "https://uks.openai.azure.com/openai", "protocol": "http" } } ] }"#;
