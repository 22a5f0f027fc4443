{{/* The parts of pods that are the same for every kind of node. Argument: root, kind (api, lb, runner), values of the kind. */}}

{{- define "hearth.podLabels" -}}
{{ include "hearth.labels" .root }}
app.kubernetes.io/component: {{ .kind }}
{{- with .values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hearth.scheduling" -}}
serviceAccountName: {{ include "hearth.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Settings of the values file, a kind's own over those of all kinds. */}}
{{- define "hearth.settings" -}}
{{- $own := .values.settings }}
{{- range $name, $value := .root.Values.settings }}
{{- if not (hasKey $own $name) }}
- name: {{ $name }}
  value: {{ include "hearth.scalar" $value | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $own }}
- name: {{ $name }}
  value: {{ include "hearth.scalar" $value | quote }}
{{- end }}
{{- end -}}

{{/* Numbers of a values file are floats, and large ones would be printed as such. */}}
{{- define "hearth.scalar" -}}
{{- if kindIs "float64" . }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{- define "hearth.environment" -}}
- name: FN_LOG_LEVEL
  value: {{ .root.Values.log.level }}
- name: FN_LOG_FORMAT
  value: {{ .root.Values.log.format }}
- name: FN_SHUTDOWN_TIMEOUT
  value: {{ printf "%ds" (int .root.Values.shutdownTimeoutSeconds) }}
{{- if ne .kind "api" }}
- name: FN_RUNNER_API_URL
  value: {{ ternary "https" "http" .root.Values.tls.enabled }}://{{ include "hearth.fullname" .root }}-api-nodes:9190
{{- end }}
{{- if .root.Values.tls.enabled }}
- name: FN_NODE_CERT
  value: /etc/hearth/tls/tls.crt
- name: FN_NODE_CERT_KEY
  value: /etc/hearth/tls/tls.key
- name: FN_NODE_CERT_AUTHORITY
  value: /etc/hearth/tls/ca.crt
- name: FN_NODE_CERT_NAME
  value: {{ .root.Values.tls.serverName }}
- name: FN_NODE_CERT_ROLES_REQUIRED
  value: {{ .root.Values.tls.requireRoles | quote }}
{{- end }}
{{- end -}}

{{- define "hearth.container" -}}
name: {{ .kind }}
image: {{ include "hearth.image" .root | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
args: [{{ .kind }}]
ports:
  - name: http
    containerPort: 8080
{{- if ne .kind "lb" }}
  - name: grpc
    containerPort: 9190
{{- end }}
startupProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 2
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /livez, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end -}}

{{- define "hearth.tlsMount" -}}
{{- if .root.Values.tls.enabled }}
- name: tls
  mountPath: /etc/hearth/tls
  readOnly: true
{{- end }}
{{- end -}}

{{- define "hearth.tlsVolume" -}}
{{- if .root.Values.tls.enabled }}
{{- $own := get .root.Values.tls (printf "%sSecret" .kind) }}
- name: tls
  secret:
    secretName: {{ $own | default .root.Values.tls.existingSecret | required (printf "tls.existingSecret or tls.%sSecret must be given when tls.enabled is true" .kind) }}
    defaultMode: {{ ternary 0400 0440 (eq .kind "runner") }}
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
      - {key: ca.crt, path: ca.crt}
{{- end }}
{{- end -}}

{{/* For nodes that need nothing of the machine. */}}
{{- define "hearth.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hearth.spread" -}}
{{- if .values.topologySpreadConstraints }}
{{- toYaml .values.topologySpreadConstraints }}
{{- else }}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- maxSkew: 1
  topologyKey: {{ . }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "hearth.selector" $.root | nindent 6 }}
      app.kubernetes.io/component: {{ $.kind }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Long enough for the delay, the calls that run, and the end of the process. */}}
{{- define "hearth.gracePeriod" -}}
{{- add (int (default 0 .values.drainDelaySeconds)) (int .root.Values.shutdownTimeoutSeconds) 20 -}}
{{- end -}}
