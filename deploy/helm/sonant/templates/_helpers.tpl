{{- define "sonant.labels" -}}
app.kubernetes.io/name: sonant
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* Labels of the pods of one component, and what selects them: (dict "root" $ "component" "api") */}}
{{- define "sonant.selector" -}}
app.kubernetes.io/name: sonant
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "sonant.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "sonant.rayImage" -}}
{{ .Values.ray.image | default (include "sonant.image" .) }}
{{- end }}

{{- define "sonant.claim" -}}
{{ .Values.persistence.existingClaim | default (printf "%s-data" .Release.Name) }}
{{- end }}

{{- define "sonant.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "sonant.security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "sonant.environment" -}}
envFrom:
  - configMapRef: {name: {{ .Release.Name }}-settings}
{{- end }}

{{- /* Of containers that open domains: API, runners, the migration. */}}
{{- define "sonant.mounts" -}}
- {name: data, mountPath: /data}
- {name: secrets, mountPath: /run/secrets/sonant, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end }}

{{- /* (dict "root" $ "keys" list): the keys of the secret that become files; without a list all of them. */}}
{{- define "sonant.secrets" -}}
- name: secrets
  secret:
    secretName: {{ .root.Values.secretName }}
    defaultMode: 0440
    {{- with .keys }}
    optional: true
    items:
      {{- range . }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
    {{- end }}
{{- end }}

{{- define "sonant.data" -}}
- name: data
  persistentVolumeClaim: {claimName: {{ include "sonant.claim" . }}}
{{- end }}

{{- define "sonant.tmp" -}}
- name: tmp
  emptyDir: {sizeLimit: 2Gi}
{{- end }}

{{- /* What a runner takes from the secret: not the carriers' credentials, nor the token of the metrics. */}}
{{- define "sonant.runnerKeys" -}}
- SONANT_DATABASE
- SONANT_S3_ACCESS_KEY_ID
- SONANT_S3_SECRET_ACCESS_KEY
- SONANT_KMS_ACCESS_KEY_ID
- SONANT_KMS_SECRET_ACCESS_KEY
- SONANT_PKCS11_PIN
- SONANT_EVENTS_WEBHOOK_SECRET
- SONANT_AUDIT_HEADS_SECRET
- SONANT_TRACES_HEADERS
{{- end }}

{{- /* Ray: every node and the runner authenticate by a token, and each other by certificates. */}}
{{- define "sonant.rayEnvironment" -}}
- {name: RAY_USAGE_STATS_ENABLED, value: "0"}
- {name: RAY_AUTH_MODE, value: token}
- {name: RAY_AUTH_TOKEN_PATH, value: /run/secrets/ray/token}
- {name: RAY_USE_TLS, value: "1"}
- {name: RAY_TLS_SERVER_CERT, value: /run/ray-certificate/tls.crt}
- {name: RAY_TLS_SERVER_KEY, value: /run/ray-certificate/tls.key}
- {name: RAY_TLS_CA_CERT, value: /run/ray-certificate/ca.crt}
{{- end }}

{{- define "sonant.rayMounts" -}}
- {name: ray-token, mountPath: /run/secrets/ray, readOnly: true}
- {name: ray-certificate, mountPath: /run/ray-certificate, readOnly: true}
- {name: ray, mountPath: /tmp/ray}
{{- end }}

{{- define "sonant.rayVolumes" -}}
- name: ray-token
  secret: {secretName: {{ .Values.ray.tokenSecretName }}, defaultMode: 0440}
- name: ray-authority
  secret: {secretName: {{ .Values.ray.caSecretName }}, defaultMode: 0440}
- name: ray-certificate
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
- name: ray
  emptyDir: {sizeLimit: 4Gi}
{{- end }}

{{- /* Issues the pod's certificate; no other container sees the authority's key. */}}
{{- define "sonant.rayCertificate" -}}
- name: certificate
  image: {{ include "sonant.rayImage" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command:
    - python
    - -m
    - sonant.jobs.workers.ray_certificate
    - --authority=/run/secrets/ray-authority
    - --out=/run/ray-certificate
    - --name=localhost
    - --name={{ .Release.Name }}-ray-head-svc
    - --name={{ .Release.Name }}-ray-head-svc.{{ .Release.Namespace }}.svc
    - --name={{ .Release.Name }}-ray-head-svc.{{ .Release.Namespace }}.svc.{{ .Values.ray.clusterDomain }}
    - --ip=127.0.0.1
    - --ip=$(POD_IP)
  env:
    - name: POD_IP
      valueFrom: {fieldRef: {fieldPath: status.podIP}}
  resources:
    requests: {cpu: 100m, memory: 128Mi}
    limits: {memory: 256Mi}
  securityContext: {{- include "sonant.security" . | nindent 4 }}
  volumeMounts:
    - {name: ray-authority, mountPath: /run/secrets/ray-authority, readOnly: true}
    - {name: ray-certificate, mountPath: /run/ray-certificate}
{{- end }}
