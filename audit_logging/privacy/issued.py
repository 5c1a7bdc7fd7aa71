"""Tokens that say themselves what they are: the formats that their issuers publish, so that a leaked one is found.

Each line is the beginning or the build of a token of one issuer or family. They are matched at the begin of a word, and
the whole word goes; so only as much stands here as tells the token from an ordinary word.
"""

from __future__ import annotations

import re
from typing import Final

_CLOUDS = (
    r"(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}",  # Amazon Web Services
    r"ABSK[A-Za-z0-9+/]{40}",
    r"bedrock-api-key-",
    r"[\w~.]{3}\dQ~[\w~.-]{31}",  # Microsoft Entra
    r"AIza[\w-]{35}",  # Google
    r"ya29\.[\w-]{20}",
    r"GOCSPX-[\w-]{20}",
    r"LTAI[A-Za-z0-9]{12}",  # Alibaba
    r"AKID[A-Za-z0-9]{32}",  # Tencent
    r"AQVN[\w-]{35}",  # Yandex
    r"YC[\w-]{38}",
    r"t1\.[\w-]{10,}=*\.[\w-]{80}",
    r"do[opr]_v1_[a-f0-9]{32}",  # DigitalOcean
    r"v1\.0-[a-f0-9]{24}-[a-f0-9]{40}",  # Cloudflare
    r"HRKU-[\w-]{20}",  # Heroku
    r"fo1_[\w-]{20}",  # Fly.io
    r"fm[12][ar]?_[A-Za-z0-9+/]{40}",
    r"tk-us-[\w-]{20}",  # Scalingo
    r"dapi[a-f0-9]{32}",  # Databricks
    r"4b1d[A-Za-z0-9]{38}",  # ClickHouse
    r"pscale_(?:tkn|oauth|pw)_",  # PlanetScale
    r"sbp_[a-f0-9]{40}",  # Supabase
    r"tskey-[a-z]+-",  # Tailscale
    r"dnkey-[\w=-]{26}",  # Defined Networking
)
_SOURCES = (
    r"gh[oprsu]_[A-Za-z0-9]{20}",  # GitHub
    r"github_pat_\w{20}",
    r"gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-[\w-]{10}",  # GitLab
    r"GR1348941[\w-]{10}",
    r"AT(?:ATT3|BB|CTT3)[\w=-]{10}",  # Atlassian
    r"npm_[A-Za-z0-9]{20}",
    r"pypi-AgE[\w-]{20}",
    r"rubygems_[a-f0-9]{20}",
    r"CLOJARS_[A-Za-z0-9]{20}",
    r"cio[A-Za-z0-9]{32}",  # crates.io
    r"dckr_(?:pat|oat)_[\w-]{10}",  # Docker
    r"AKCp[A-Za-z0-9]{30}",  # Artifactory
    r"cmVmd[A-Za-z0-9]{30}",
    r"sgp_[A-Za-z0-9_]{16}",  # Sourcegraph
    r"sq[apu]_[a-f0-9]{40}",  # SonarQube
    r"CCI(?:PAT|PRJ)_[\w]{10}",  # CircleCI
    r"pul-[a-f0-9]{20}",  # Pulumi
    r"[A-Za-z0-9]{14}\.atlasv1\.",  # Terraform
    r"hv[brs]\.[\w-]{20}",  # Vault
    r"s\.[A-Za-z0-9]{24}\b",
    r"(?:pat|sat)\.[\w-]{22}\.[A-Za-z0-9]{24}\.",  # Harness
    r"API-[A-Z0-9]{26}\b",  # Octopus Deploy
    r"pnu_[A-Za-z0-9]{20}",  # Prefect
    r"dp\.(?:pt|st|ct|sa|scim|audit)\.[A-Za-z0-9.]{20}",  # Doppler
    r"PMAK-[a-f0-9]{24}",  # Postman
    r"sntry[su]_\w{10}",  # Sentry
    r"dt0[a-z]\d\d\.[A-Za-z0-9]{24}\.",  # Dynatrace
    r"gl(?:c|sa)_[A-Za-z0-9+/]{20}",  # Grafana
    r"NR(?:AK|II|JS|RA)-[A-Za-z0-9-]{15}",  # New Relic
    r"ico-[A-Za-z0-9]{32}",  # Infracost
    r"sha256~[\w-]{43}",  # OpenShift
    r"figd_[\w-]{20}",  # Figma
    r"lin_(?:api|oauth)_[A-Za-z0-9]{20}",  # Linear
    r"ntn_[A-Za-z0-9]{20}",  # Notion
    r"secret_[A-Za-z0-9]{40}",
    r"pat[A-Za-z0-9]{14}\.[a-f0-9]{32}",  # Airtable
    r"rdme_[a-z0-9]{30}",  # ReadMe
    r"fio-u-[\w=-]{30}",  # Frame.io
    r"ph[cxs]_[A-Za-z0-9]{30}",  # PostHog
    r"apify_api_[A-Za-z0-9]{20}",
    r"A3-[A-Z0-9]{6}-[A-Z0-9]{6}",  # 1Password
    r"ops_eyJ[\w+/]{20}",
    r"p8e-[A-Za-z0-9]{20}",  # Adobe
    r"s-s4t2(?:ud|af)-[a-f0-9]{20}",  # 42
    r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-]",  # Authress
    r"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b",  # MaxMind
)
_MESSAGES = (
    r"xox[a-z]?[.-][\w.-]{10}",  # Slack
    r"xapp-\d-[A-Za-z0-9-]{10}",
    r"SG\.[\w=.-]{20}",  # SendGrid
    r"xkeysib-[a-f0-9]{20}",  # Brevo
    r"(?:key|pubkey)-[a-f0-9]{32}",  # Mailgun
    r"[a-f0-9]{32}-us\d\d?\b",  # Mailchimp
    r"(?:SK|AC)[a-f0-9]{32}\b",  # Twilio
    r"\d{5,16}:A[\w-]{34}",  # Telegram
    r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}",  # Discord
    r"EAA[\w-]{20,}",  # Meta, Square
    r"\d{15,16}[|%][\w-]{27}",
    r"A{20}[A-Za-z0-9%]{60}",  # X
    r"tfp_[\w.=-]{20}",  # Typeform
    r"https?://[a-z0-9-]+\.webhook\.office\.com/webhookb2/",  # Microsoft Teams
    r"https?://hooks\.slack\.com/(?:services|workflows|triggers)/",
    r"https?://(?:canary\.|ptb\.)?discord(?:app)?\.com/api/webhooks/",
)
_MONEY = (
    r"[rs]k_(?:test|live|prod)_[A-Za-z0-9]{10}",  # Stripe
    r"whsec_[A-Za-z0-9+/=]{16}",
    r"sq0(?:atp|csp|idp)-[\w-]{20}",  # Square
    r"access-(?:sandbox|development|production)-[a-f0-9]{8}-",  # Plaid
    r"FLW(?:SECK|PUBK)(?:_TEST)?-[A-Za-z0-9]{12}",  # Flutterwave
    r"EZ[AT]K[A-Za-z0-9]{30}",  # EasyPost
    r"shippo_(?:live|test)_[A-Fa-f0-9]{20}",
    r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{20}",  # Shopify
    r"duffel_(?:test|live)_[\w=-]{20}",
    r"(?:live|test)_(?:pub_)?[\w=-]{31,}",  # GoCardless, Lob
    r"access_token\$(?:production|sandbox)\$[a-z0-9]{10,}",  # Braintree
    r"sm_(?:aat|pat|sat)_[A-Za-z0-9]{16}",  # SettleMint
)
_MODELS = (
    r"sk-[\w-]{20}",  # OpenAI, Anthropic and others
    r"pplx-[A-Za-z0-9]{20}",
    r"hf_[A-Za-z]{30}",  # Hugging Face
    r"api_org_[A-Za-z]{30}",
    r"gsk_[A-Za-z0-9]{30}",  # Groq
    r"xai-[A-Za-z0-9]{30}",
    r"r8_[A-Za-z0-9]{30}",  # Replicate
    r"nvapi-[\w-]{30}",  # NVIDIA
    r"lsv2_(?:pt|sk)_[a-f0-9]{20}",  # LangSmith
)
_KEYS = (
    r"ey[A-Za-z0-9]{15,}\.ey[\w/\\-]{10,}\.?",  # JSON Web Token
    r"eyJ(?:rIjoi|hbGci|0eXAi)[\w+/=-]{20}",
    r"ZXlK[A-Za-z0-9+/=]{30}",  # one more time in base64
    r"AGE-SECRET-KEY-1[A-Z0-9]{30}",
)

ISSUED: Final = re.compile("|".join((*_CLOUDS, *_SOURCES, *_MESSAGES, *_MONEY, *_MODELS, *_KEYS)))
"""Matches at the begin of a word that is such a token."""
