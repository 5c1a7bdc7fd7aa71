"""Kinds of secrets by the formats that their issuers publish, written down apart from the patterns that find them.

A format is text in which ``{an:36}`` stands for 36 characters drawn by lot: ``an`` letters and digits, ``low`` lower-case
letters and digits, ``up`` upper-case ones and digits, ``hex``, ``HEX``, ``num`` digits, ``let`` letters, ``url`` the
alphabet of URL-safe base64, ``b64`` that of base64, ``b32`` that of base32.
"""

import random
import re
import string

ALPHABETS = {
    "an": string.ascii_letters + string.digits,
    "low": string.ascii_lowercase + string.digits,
    "up": string.ascii_uppercase + string.digits,
    "hex": "0123456789abcdef",
    "HEX": "0123456789ABCDEF",
    "num": string.digits,
    "let": string.ascii_letters,
    "url": string.ascii_letters + string.digits + "-_",
    "b64": string.ascii_letters + string.digits + "+/",
    "b32": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
}

FORMATS = """
1password secret key            A3-{up:6}-{up:11}-{up:5}-{up:5}-{up:5}
1password service account       ops_eyJ{b64:260}
adobe client secret             p8e-{low:32}
age secret key                  AGE-SECRET-KEY-1{up:58}
airtable personal token         pat{an:14}.{hex:64}
alibaba access key id           LTAI{an:20}
anthropic api key               sk-ant-api03-{url:93}AA
anthropic admin key             sk-ant-admin01-{url:93}AA
apify api token                 apify_api_{an:36}
artifactory api key             AKCp{an:69}
artifactory reference token     cmVmd{an:59}
atlassian api token             ATATT3xFfGF0{url:171}={HEX:8}
authress access key             sc_{low:12}.{low:5}.acc_{low:16}.{low:43}
aws access key id               AKIA{b32:16}
aws temporary access key id     ASIA{b32:16}
aws bedrock long-lived key      ABSK{b64:120}
aws bedrock short-lived key     bedrock-api-key-YmVkcm9jay5hbWF6b25hd3MuY29t{b64:40}
azure client secret             {an:3}8Q~{url:34}
bitbucket app password          ATBB{an:32}
braintree access token          access_token$production${low:16}${hex:32}
brevo api key                   xkeysib-{hex:64}-{an:16}
circleci personal token         CCIPAT_{an:22}_{hex:40}
clickhouse cloud key            4b1d{an:38}
clojars token                   CLOJARS_{low:60}
cloudflare origin ca key        v1.0-{hex:24}-{hex:146}
crates.io token                 cio{an:32}
databricks token                dapi{hex:32}
defined networking token        dnkey-{low:26}-{low:52}
digitalocean oauth token        doo_v1_{hex:64}
digitalocean personal token     dop_v1_{hex:64}
digitalocean refresh token      dor_v1_{hex:64}
discord bot token               M{an:23}.{url:6}.{url:38}
discord webhook                 https://discord.com/api/webhooks/{num:18}/{url:68}
docker personal token           dckr_pat_{url:27}
doppler personal token          dp.pt.{an:43}
doppler service token           dp.st.prd.{an:43}
duffel live token               duffel_live_{url:43}
dynatrace token                 dt0c01.{up:24}.{up:64}
easypost key                    EZAK{an:54}
easypost test key               EZTK{an:54}
facebook page token             EAAC{an:120}
facebook app token              {num:16}|{url:27}
figma token                     figd_{url:40}
flutterwave secret key          FLWSECK-{an:32}-X
flutterwave test key            FLWSECK_TEST-{hex:32}-X
fly.io token                    fo1_{url:43}
fly.io macaroon                 fm2_{b64:120}
frame.io token                  fio-u-{url:64}
github app user token           ghu_{an:36}
github app installation token   ghs_{an:36}
github fine-grained token       github_pat_{an:22}_{an:59}
github oauth token              gho_{an:36}
github personal token           ghp_{an:36}
github refresh token            ghr_{an:36}
gitlab ci job token             glcbt-64_{url:20}
gitlab deploy token             gldt-{url:20}
gitlab feature flag token       glffct-{url:20}
gitlab feed token               glft-{url:20}
gitlab incoming mail token      glimt-{url:25}
gitlab kubernetes agent token   glagent-{url:50}
gitlab oauth secret             gloas-{url:64}
gitlab personal token           glpat-{url:20}
gitlab trigger token            glptt-{hex:40}
gitlab registration token       GR1348941{url:20}
gitlab runner token             glrt-{url:20}
gitlab scim token               glsoat-{url:20}
gocardless token                live_{url:40}
google api key                  AIza{url:35}
google oauth access token       ya29.{url:120}
google oauth client secret      GOCSPX-{url:28}
grafana cloud token             glc_{b64:80}
grafana service account token   glsa_{an:32}_{HEX:8}
grafana legacy key              eyJrIjoi{an:90}
groq api key                    gsk_{an:52}
harness personal token          pat.{url:22}.{an:24}.{an:20}
heroku api key                  HRKU-AA{url:58}
hugging face token              hf_{let:34}
hugging face organisation token api_org_{let:34}
infracost api key               ico-{an:32}
intra 42 client secret          s-s4t2ud-{hex:64}
jwt                             eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI{url:40}.{url:43}
jwt in base64                   ZXlKaGJHY2lPaUpJVXpJMU5pSjk{an:60}
langsmith key                   lsv2_pt_{hex:32}_{hex:10}
linear api key                  lin_api_{an:40}
lob key                         live_{hex:35}
lob publishable key             test_pub_{hex:31}
mailchimp key                   {hex:32}-us12
mailgun private key             key-{hex:32}
mailgun public key              pubkey-{hex:32}
maxmind licence key             {an:6}_{an:29}_mmk
meta instagram token            EAAM{an:140}
microsoft teams webhook         https://shop.webhook.office.com/webhookb2/{hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}@{hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}/IncomingWebhook/{hex:32}/{hex:8}
new relic browser token         NRJS-{hex:19}
new relic insert key            NRII-{url:32}
new relic user key              NRAK-{up:27}
notion token                    ntn_{num:11}{an:35}
notion legacy token             secret_{an:43}
npm token                       npm_{an:36}
nvidia api key                  nvapi-{url:64}
octopus deploy key              API-{up:26}
openai key                      sk-{an:20}T3BlbkFJ{an:20}
openai project key              sk-proj-{url:74}T3BlbkFJ{url:74}
openshift user token            sha256~{url:43}
perplexity key                  pplx-{an:48}
plaid access token              access-production-{hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}
planetscale token               pscale_tkn_{url:43}
planetscale oauth token         pscale_oauth_{url:43}
planetscale password            pscale_pw_{url:43}
postman key                     PMAK-{hex:24}-{hex:34}
posthog personal key            phx_{an:43}
prefect key                     pnu_{an:36}
pulumi token                    pul-{hex:40}
pypi token                      pypi-AgEIcHlwaS5vcmc{url:80}
readme token                    rdme_{low:70}
replicate token                 r8_{an:37}
rubygems key                    rubygems_{hex:48}
scalingo token                  tk-us-{url:48}
sendgrid key                    SG.{url:22}.{url:43}
sentry organisation token       sntrys_eyJpYXQiO{b64:120}_{b64:43}
sentry user token               sntryu_{hex:64}
settlemint application token    sm_aat_{an:16}
settlemint personal token       sm_pat_{an:16}
settlemint service token        sm_sat_{an:16}
shippo token                    shippo_live_{hex:40}
shopify access token            shpat_{hex:32}
shopify custom app token        shpca_{hex:32}
shopify private app token       shppa_{hex:32}
shopify shared secret           shpss_{hex:32}
slack app token                 xapp-1-{up:11}-{num:12}-{hex:64}
slack bot token                 xoxb-{num:12}-{num:12}-{an:24}
slack configuration token       xoxe.xoxp-1-{up:166}
slack refresh token             xoxe-1-{up:146}
slack legacy token              xoxs-{num:10}-{num:10}-{num:10}-{hex:10}
slack user token                xoxp-{num:12}-{num:12}-{num:12}-{an:32}
slack workspace token           xoxa-2-{an:40}
slack webhook                   https://hooks.slack.com/services/T{up:8}/B{up:10}/{an:24}
sonarqube user token            squ_{hex:40}
sonarqube project token         sqp_{hex:40}
sourcegraph token               sgp_{hex:16}_{hex:40}
square access token             EAAA{url:60}
square oauth secret             sq0csp-{url:43}
square personal token           sq0atp-{url:22}
stripe live secret key          sk_live_{an:24}
stripe restricted key           rk_live_{an:24}
stripe test key                 sk_test_{an:24}
stripe webhook secret           whsec_{an:32}
supabase token                  sbp_{hex:40}
tailscale key                   tskey-auth-{an:17}-{an:32}
telegram bot token              {num:10}:AA{url:33}
tencent secret id               AKID{an:32}
terraform cloud token           {an:14}.atlasv1.{url:67}
twilio api key                  SK{hex:32}
twilio account sid              AC{hex:32}
typeform token                  tfp_{an:44}_{an:14}
vault batch token               hvb.{url:140}
vault service token             hvs.{url:95}
vault legacy token              s.{an:24}
x bearer token                  AAAAAAAAAAAAAAAAAAAAAA{an:80}
xai key                         xai-{an:80}
yandex api key                  AQVN{url:36}
yandex iam token                t1.{url:120}.{url:86}
yandex static key               YC{url:38}
rsa private key                 -----BEGIN RSA PRIVATE KEY-----\\n{b64:64}\\n{b64:64}\\n-----END RSA PRIVATE KEY-----
openssh private key             -----BEGIN OPENSSH PRIVATE KEY-----\\n{b64:70}\\n{b64:70}\\n-----END OPENSSH PRIVATE KEY-----
pkcs8 private key               -----BEGIN PRIVATE KEY-----\\n{b64:64}\\n-----END PRIVATE KEY-----
encrypted private key           -----BEGIN ENCRYPTED PRIVATE KEY-----\\n{b64:64}\\n-----END ENCRYPTED PRIVATE KEY-----
pgp private key                 -----BEGIN PGP PRIVATE KEY BLOCK-----\\n\\n{b64:64}\\n-----END PGP PRIVATE KEY BLOCK-----
private key cut short           -----BEGIN EC PRIVATE KEY-----\\n{b64:64}\\n{b64:20}
adafruit key                    adafruit_api_key={url:32}
airtable legacy key             AIRTABLE_API_KEY: {low:17}
alibaba secret key              alibaba_secret_key = "{low:30}"
algolia key                     algolia_api_key={low:32}
asana client secret             asana_client_secret: {low:32}
aws secret access key           aws_secret_access_key = {b64:40}
aws session token               AWS_SESSION_TOKEN={b64:200}
azure storage key               DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={b64:86}==;EndpointSuffix=core.windows.net
azure sas token                 https://shop.blob.core.windows.net/c?sv=2024-01-01&sig={an:43}%3D
bitbucket client secret         bitbucket_client_secret={url:64}
bittrex secret key              bittrex_secret_key={low:32}
cloudflare api token            CLOUDFLARE_API_TOKEN={url:40}
codecov token                   codecov_token: {low:32}
coinbase token                  coinbase_access_token={url:64}
confluent secret                confluent_secret_key: {low:64}
contentful token                contentful_access_token={url:43}
datadog key                     DATADOG_API_KEY={hex:40}
discord client secret           discord_client_secret={url:32}
droneci token                   droneci_token={low:32}
dropbox secret                  dropbox_app_secret={low:15}
etsy key                        ETSY_API_KEY={low:24}
facebook secret                 facebook_app_secret={hex:32}
fastly token                    fastly_api_token={url:32}
finicity secret                 finicity_client_secret={low:20}
heroku legacy key               HEROKU_API_KEY={hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}
hubspot key                     hubspot_api_key: {HEX:8}-{HEX:4}-{HEX:4}-{HEX:4}-{HEX:12}
intercom token                  intercom_access_token={url:60}
jfrog key                       jfrog_api_key={low:73}
kraken key                      kraken_api_key={b64:85}
kucoin secret                   kucoin_secret_key={hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}
launchdarkly key                launchdarkly_access_token={url:40}
linkedin secret                 linkedin_client_secret={low:16}
mattermost token                mattermost_access_token: {low:26}
meraki key                      meraki_api_key = {hex:40}
netlify token                   netlify_auth_token={url:43}
okta token                      OKTA_API_TOKEN=00{url:40}
rapidapi key                    x-rapidapi-key: {url:50}
sendbird token                  sendbird_api_token={hex:40}
sidekiq url                     https://{hex:8}:{hex:8}@gems.contribsys.com/
snyk token                      SNYK_TOKEN={hex:8}-{hex:4}-{hex:4}-{hex:4}-{hex:12}
travis token                    travis_token={an:22}
twitch secret                   twitch_client_secret={low:30}
twitter secret                  twitter_api_secret={an:50}
zendesk secret                  zendesk_secret_key={low:40}
basic authorization             Authorization: Basic {b64:24}
bearer authorization            authorization: Bearer {an:40}
api key header                  X-API-Key: {an:32}
cookie header                   Cookie: sessionid={low:32}
json password                   {{"user": "bob", "password": "{an:12}!"}}
form password                   username=bob&password={an:10}&next=/
yaml password                   db_password: {an:12}
shell variable                  export DB_PASSWORD='{an:6} {an:8}'
command line password           mysql --password={an:10} shop
command line option             deploy --token {an:20} --force
spoken password                 The password is {low:6}7{low:3}!
postgres url                    postgresql://shop:{an:14}@db.example.com:5432/shop
redis url                       redis://:{an:20}@cache.example.com:6379/0
amqp url                        amqp://shop:{an:16}@mq.example.com/%2f
mongodb url                     mongodb+srv://shop:{an:18}@cluster0.example.mongodb.net/
url with token                  https://example.com/reset?token={url:32}
odbc connection string          Server=db;Database=shop;Uid=shop;Pwd={an:14};
one-time password               otp={num:6}
card verification value         cvv: {num:3}
unknown token                   {an:48}
"""


def secret_kinds(seed):
    """Return (kind, text with one secret, the parts of it that were drawn by lot) of every kind."""
    draw = random.Random(seed)
    return [
        (line[:32].strip(), *_drawn(line[32:].replace("\\n", "\n").replace("{{", "{").replace("}}", "}"), draw))
        for line in FORMATS.strip().splitlines()
    ]


def _drawn(template, draw):
    parts = []

    def fill(match):
        part = "".join(draw.choices(ALPHABETS[match[1]], k=int(match[2])))
        parts.append(part)
        return part

    return re.sub(r"\{(\w+):(\d+)\}", fill, template), parts
