{{/* What is refused, each with a sentence. Not for other charts. */}}

{{- define "touchline.checkAlias" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- if not (and $v.sidecar $v.lifecycle $v.backendContainer) -}}
{{- fail "touchline: the values have no `touchline`: give the dependency touchline-lib in Chart.yaml the line `alias: touchline`" -}}
{{- end -}}
{{- end -}}

{{/* What holds wherever the configuration is rendered. */}}
{{- define "touchline.check" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.checkAlias" . -}}
{{- if and (hasKey $v.config "admin") (or (kindIs "bool" $v.config.admin) (eq (toString $v.config.admin) "off")) -}}
{{- fail "touchline: config.admin is off, so the pod would have no probes: leave it on, or protect it with config.admin.token" -}}
{{- end -}}
{{- include "touchline.checkSecrets" (dict "value" $v.config "path" "config") -}}
{{- range $name, $text := $v.files -}}
{{- if eq $name "proxy.yaml" -}}
{{- fail "touchline: files has proxy.yaml, which comes from config" -}}
{{- end -}}
{{- if contains "PRIVATE KEY-----" $text -}}
{{- fail (printf "touchline: files has a private key in %s, and a ConfigMap is no place for one: put it into the Secret" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Secrets in plain text, whose place is not a ConfigMap. The text itself is never shown. scripts/chart-docs holds that these
keys are all that the schema has secrets under.
*/}}
{{- define "touchline.checkSecrets" -}}
{{- $path := .path -}}
{{- if kindIs "map" .value -}}
{{- range $key, $value := .value -}}
{{- $here := printf "%s.%s" $path $key -}}
{{- if kindIs "string" $value -}}
{{- $secret := has $key (list "api_key" "authorization" "identity_secret" "password" "sentinel_password" "token") -}}
{{- $secret = or $secret (regexMatch "^[a-z]+://[^/@]*:[^/@]+@" $value) -}}
{{- $secret = or $secret (hasPrefix "https://hooks.slack.com/" $value) -}}
{{- if and $secret $value (not (contains "${" $value)) -}}
{{- fail (printf "touchline: %s is a secret in plain text, and a ConfigMap is no place for one: put it into the Secret and write { file: /etc/touchline-secrets/KEY }, or ${NAME} with sidecar.extraEnv" $here) -}}
{{- end -}}
{{- else -}}
{{- include "touchline.checkSecrets" (dict "value" $value "path" $here) -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- range $index, $value := .value -}}
{{- include "touchline.checkSecrets" (dict "value" $value "path" (printf "%s[%d]" $path $index)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What holds for a pod with the sidecar in it. */}}
{{- define "touchline.checkPod" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- include "touchline.check" . -}}
{{- $version := .Capabilities.KubeVersion.Version -}}
{{- if and (eq $v.sidecar.mode "native") (semverCompare "<1.29-0" $version) -}}
{{- fail (printf "touchline: sidecar.mode is native, which needs Kubernetes 1.29 or newer, and this is %s: set sidecar.mode to container" $version) -}}
{{- end -}}
{{- if and (semverCompare "<1.30-0" $version) (not $v.lifecycle.backendPreStop) (gt (int $v.lifecycle.backendSleepSeconds) 0) -}}
{{- fail (printf "touchline: preStop.sleep needs Kubernetes 1.30 or newer, and this is %s: set lifecycle.backendPreStop to an exec hook of the backend such as { exec: { command: [sleep, \"20\"] } }, or lifecycle.backendSleepSeconds to 0 for none" $version) -}}
{{- end -}}
{{- end -}}
