"use strict";

const element = (id) => document.getElementById(id);
const show = (id, text, tone) => {
  element(id).textContent = text;
  if (tone !== undefined) {
    element(id).classList.remove("good", "bad", "wait");
    if (tone) element(id).classList.add(tone);
  }
};

const STREAM = { PENDING_CONFIGURATION: "waiting for audio", ONGOING: "listening", ENDED: "ended" };
const AUTHENTICATION = {
  ACCEPT: ["Authenticated", "good"],
  REJECT: ["Not authenticated", "bad"],
  NOT_ENOUGH_SPEECH: ["Not enough speech yet", "wait"],
  SPEAKER_NOT_ENROLLED: ["Not enrolled", "wait"],
  SPEAKER_OPTED_OUT: ["Opted out", "wait"],
  SPEAKER_ID_NOT_PROVIDED: ["No caller named", "wait"],
  SPEAKER_EXPIRED: ["Enrollment expired", "wait"],
};
const FRAUD = {
  HIGH_RISK: ["High risk", "bad"],
  LOW_RISK: ["Low risk", "good"],
  NOT_ENOUGH_SPEECH: ["Not enough speech yet", "wait"],
};
const REASONS = { KNOWN_FRAUDSTER: "sounds like a known fraudster", VOICE_SPOOFING: "voice may be synthetic or replayed" };
const ENROLLMENT = {
  NOT_ENOUGH_SPEECH: "Enrollment: gathering speech; let the caller go on talking.",
  IN_PROGRESS: "Enrollment: enough speech; the voiceprint is being computed.",
  COMPLETED: "Enrollment: completed.",
  FAILED: "Enrollment: failed.",
};
const FULL_S = 30;

function showSession(session) {
  show("name", session.SessionName);
  const status = session.StreamingStatus;
  show("stream", STREAM[status] || status, status === "ONGOING" ? "good" : "");
  show("speaker", session.CustomerSpeakerId || session.GeneratedSpeakerId || "No caller named yet");
  const speech = session.NetSpeechSeconds || 0;
  const minimum = session.StreamingConfiguration.AuthenticationMinimumSpeechInSeconds;
  element("bar").style.width = Math.min(100, (100 * speech) / FULL_S) + "%";
  element("mark").hidden = !session.AuthenticationConfiguration;
  element("mark").style.left = (100 * minimum) / FULL_S + "%";
  show("speech", speech.toFixed(1) + " s");
  show("needed", minimum + " s are needed for authentication, " + FULL_S + " s for enrollment.");
  const noticed = session.SpeechReasons || [];
  const several = noticed.includes("MULTIPLE_SPEAKERS");
  const changed = noticed.includes("SPEAKER_CHANGED"), risky = noticed.includes("LATER_HIGH_RISK");
  element("warning").hidden = !(changed || risky);
  show("warning", (changed ? "Somebody else speaks now than at the authentication. " : "") +
    (risky ? "Later speech is of a high risk of fraud. " : "") + "Listen again, or verify the caller otherwise.");
  show("call", "Call heard for " + Math.round(session.HeardSeconds || 0) + " s." +
    (several ? " Several people speak; authentication needs " + minimum + " s of one of them." : ""));
  const enrollment = session.EnrollmentRequestDetails;
  const statusText = enrollment ? ENROLLMENT[enrollment.Status] || enrollment.Status : "";
  show("enrollment", statusText + (enrollment && enrollment.Message ? " " + enrollment.Message : ""),
    enrollment ? { COMPLETED: "good", FAILED: "bad" }[enrollment.Status] || "wait" : "");
  element("enroll").disabled = Boolean(enrollment) || !session.GeneratedSpeakerId;
  element("opt-out").disabled = !session.GeneratedSpeakerId;
  element("restart").disabled = status !== "ONGOING";
}

function showEvaluation(evaluation, ended) {
  const voice = evaluation.AuthenticationResult, fraud = evaluation.FraudDetectionResult;
  const verdict = (result, texts) => {
    if (!result) return ["Off", ""];
    if (result.Decision === "NOT_ENOUGH_SPEECH" && ended) return ["Inconclusive", "wait"];
    return texts[result.Decision] || [result.Decision, ""];
  };
  show("authentication", ...verdict(voice, AUTHENTICATION));
  show("authentication-told", voice && voice.Score !== undefined
    ? "Score " + voice.Score + ", threshold " + voice.Configuration.AcceptanceThreshold + "." : "");
  show("fraud-verdict", ...verdict(fraud, FRAUD));
  const risks = fraud && fraud.RiskDetails;
  const reasons = ((fraud && fraud.Reasons) || []).map((one) => REASONS[one] || one);
  show("fraud-told", risks
    ? (reasons.length ? reasons.join("; ") + ". " : "") + "Known fraudster " + risks.KnownFraudsterRisk.RiskScore +
      ", spoofing " + risks.VoiceSpoofingRisk.RiskScore + ", threshold " + fraud.Configuration.RiskThreshold + "."
    : "");
}

// What the next look at the session may find solved.
function showProblem(text) {
  element("problem").hidden = !text;
  show("problem", text || "");
}

// Why an action failed: shown until the agent dismisses it, or the same action succeeds.
let failed = "";
function showFailure(path, text) {
  failed = text ? path : "";
  element("failure").hidden = !text;
  show("failure-text", text || "");
}

async function call(path, method) {
  const response = await fetch(location.pathname + path, {
    method, headers: { "X-Sonant": "1" }, credentials: "same-origin",
  });
  if (response.status === 401) {
    location.assign("/sign-in?next=" + encodeURIComponent(location.pathname));
    throw new Error("Signed out.");
  }
  const answers = await response.json();
  if (!response.ok) throw new Error(answers.message);
  for (const answer of Object.values(answers)) {
    if (answer.__type) throw new Error(answer.Message || answer.message || answer.__type);
  }
  return answers;
}

async function refresh() {
  let pause = 1000;
  try {
    const answers = await call("/state", "GET");
    const session = answers.DescribeSession.Session;
    showSession(session);
    showEvaluation(answers.EvaluateSession, session.StreamingStatus === "ENDED");
    showProblem("");
    if (session.StreamingStatus === "ENDED") pause = 4000;
  } catch (fault) {
    showProblem(fault.message);
    pause = 5000;
  }
  setTimeout(refresh, pause);
}

async function act(path) {
  try {
    await call(path, "POST");
    if (failed === path) showFailure(path, "");
  } catch (fault) {
    showFailure(path, fault.message);
  }
}

function startSessionPage() {
  element("enroll").addEventListener("click", () => { element("enroll").disabled = true; act("/enroll"); });
  element("restart").addEventListener("click", () => act("/restart"));
  element("dismiss").addEventListener("click", () => {
    showFailure("", "");
    element("name").closest("h1").focus();
  });
  element("opt-out").addEventListener("click", () => element("sure").showModal());
  element("sure").addEventListener("close", () => { if (element("sure").returnValue === "yes") act("/opt-out"); });
  refresh();
}

startSessionPage();
