{{/* Names, images and what is read out of the configuration. Not for other charts. */}}

{{/* The version of touchline that these templates are for; scripts/chart-docs writes it. */}}
{{- define "touchline.version" -}}
0.1.0
{{- end -}}

{{/* The name of the release's objects, with room for endings: -proxied, -touchline-config. */}}
{{- define "touchline.fullname" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- $name := $v.nameOverride | default .Chart.Name -}}
{{- if $v.fullnameOverride -}}
{{- $v.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "touchline.configMapName" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- $fullname := include "touchline.fullname" . -}}
{{- if $v.configMap.name -}}
{{- $v.configMap.name -}}
{{- else if eq ($v.mode | default "") "config" -}}
touchline-config
{{- else if contains "touchline" $fullname -}}
{{- $fullname -}}-config
{{- else -}}
{{- $fullname -}}-touchline-config
{{- end -}}
{{- end -}}

{{/* An image: dict "image" MAP "global" .Values.global "tag" DEFAULT. */}}
{{- define "touchline.image" -}}
{{- $registry := (.global | default dict).imageRegistry | default .image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest -}}
@{{ .image.digest }}
{{- else -}}
:{{ .image.tag | default .tag }}
{{- end -}}
{{- end -}}

{{/*
The configuration as it is mounted. YAML 1.1, which Helm reads, takes a bare `off` for `false`; touchline wants the word.
*/}}
{{- define "touchline.config" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- $config := deepCopy $v.config -}}
{{- range $key := list "admin" "control" -}}
{{- if eq (kindOf (index $config $key)) "bool" -}}
{{- $_ := set $config $key "off" -}}
{{- end -}}
{{- end -}}
{{- $alerts := ($config.telemetry | default dict).alerts | default dict -}}
{{- range $name, $rule := $alerts.rules -}}
{{- if eq (kindOf $rule) "bool" -}}
{{- $_ := set $alerts.rules $name "off" -}}
{{- end -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The port of a listener: dict "listen" TEXT "key" NAME. It has to be known here, and pods have to be reached at it. */}}
{{- define "touchline.port" -}}
{{- if contains "${" .listen -}}
{{- fail (printf "touchline: config.%s comes from the environment, so its port is not known here: write the address" .key) -}}
{{- else if and (not .loopback) (regexMatch "^(127\\.|localhost:|\\[::1\\])" .listen) -}}
{{- fail (printf "touchline: config.%s is on the loopback, where neither a Service nor a probe reaches it: write 0.0.0.0:%s" .key (regexFind "[0-9]+$" .listen)) -}}
{{- end -}}
{{- regexFind "[0-9]+$" .listen -}}
{{- end -}}

{{- define "touchline.adminPort" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- $admin := $v.config.admin | default dict -}}
{{- if kindIs "map" $admin -}}
{{- include "touchline.port" (dict "listen" ($admin.listen | default "0.0.0.0:9090") "key" "admin.listen") -}}
{{- end -}}
{{- end -}}

{{/* The port for clients; empty without the plane. */}}
{{- define "touchline.ingressPort" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- if $v.config.ingress -}}
{{- include "touchline.port" (dict "listen" ($v.config.ingress.listen | default "0.0.0.0:8080") "key" "ingress.listen") -}}
{{- end -}}
{{- end -}}

{{/* Whole seconds of a time such as 25s, a part of one counts as one: dict "time" TEXT "key" NAME. */}}
{{- define "touchline.seconds" -}}
{{- if not (regexMatch "^[0-9]+(ms|s|m|h|d)$" .time) -}}
{{- fail (printf "touchline: %s is no time such as 25s, and the grace period of the pod cannot be computed: write one, or set lifecycle.terminationGracePeriodSeconds" .key) -}}
{{- end -}}
{{- $number := regexFind "^[0-9]+" .time | int64 -}}
{{- $unit := regexFind "[a-z]+$" .time -}}
{{- if eq $unit "ms" -}}
{{- div (add $number 999) 1000 -}}
{{- else -}}
{{- mul $number (get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) $unit) -}}
{{- end -}}
{{- end -}}

{{/* "yes" if the control listener is on. */}}
{{- define "touchline.hasControl" -}}
{{- $v := .Values.touchline | default .Values -}}
{{- if kindIs "map" ($v.config.control | default dict) -}}
{{- if not (and (hasKey $v.config "control") (eq (kindOf $v.config.control) "bool")) -}}yes{{- end -}}
{{- end -}}
{{- end -}}
