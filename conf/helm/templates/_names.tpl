{{- /* The name of everything: the release's, with that of the chart where it lacks it. */}}
{{- define "countersign.name" -}}
{{- if contains "countersign" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-countersign" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects the pods; it never changes. */}}
{{- define "countersign.selector" -}}
app.kubernetes.io/name: countersign
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "countersign.labels" -}}
{{ include "countersign.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- /* countersign.yaml: what the operator gives, and what belongs to the pod where it is not given. */}}
{{- define "countersign.configuration" -}}
{{- $shared := eq .Values.mode "shared" -}}
{{- $audit := dict "file" "-" -}}
{{- $replay := dict -}}
{{- if $shared -}}
{{- $audit = dict "file" "-" "token_key" (printf "/etc/%s/token-hash.key" .Values.secrets.backend) -}}
{{- $replay = dict "store" "redis" "instances" (int .Values.replicas) -}}
{{- end -}}
{{- $pod := dict
    "listeners" (list (dict "address" "0.0.0.0:8080"))
    "admin" (dict "address" "0.0.0.0:9790")
    "registry" (dict "file" "machines.yaml")
    "audit" $audit
    "log" (dict "format" "json") -}}
{{- if $shared }}{{ $_ := set $pod "replay" $replay }}{{ end -}}
{{- toYaml (merge (deepCopy .Values.config) $pod) -}}
{{- end -}}

{{- /* machines.yaml. */}}
{{- define "countersign.registry" -}}
{{- $registry := dict "machines" .Values.machines -}}
{{- if .Values.groups }}{{ $_ := set $registry "groups" .Values.groups }}{{ end -}}
{{- if .Values.removed }}{{ $_ := set $registry "removed" .Values.removed }}{{ end -}}
{{- toYaml $registry -}}
{{- end -}}
