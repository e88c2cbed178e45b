"use strict";

const at = (id) => document.getElementById(id);
const show = (id, text, tone) => {
  at(id).textContent = text;
  if (tone !== undefined) {
    at(id).classList.remove("good", "bad", "wait");
    if (tone) at(id).classList.add(tone);
  }
};

function signIn() {
  const asked = new URLSearchParams(location.search);
  at("failed").hidden = !asked.has("failed");
  at("signed").hidden = !asked.has("signed");
  at("sign-in").action = "/sign-in?next=" + encodeURIComponent(asked.get("next") || "");
}

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
  IN_PROGRESS: "Enrollment: enough speech; the voiceprint is being made.",
  COMPLETED: "Enrollment: completed.",
  FAILED: "Enrollment: failed.",
};
const FULL_S = 30;

function tellSession(session) {
  show("name", session.SessionName);
  const status = session.StreamingStatus;
  show("stream", STREAM[status] || status, status === "ONGOING" ? "good" : "");
  show("speaker", session.CustomerSpeakerId || session.GeneratedSpeakerId || "No caller named yet");
  const speech = session.NetSpeechSeconds || 0;
  const minimum = session.StreamingConfiguration.AuthenticationMinimumSpeechInSeconds;
  at("bar").style.width = Math.min(100, (100 * speech) / FULL_S) + "%";
  at("mark").hidden = !session.AuthenticationConfiguration;
  at("mark").style.left = (100 * minimum) / FULL_S + "%";
  show("speech", speech.toFixed(1) + " s");
  show("needed", minimum + " s are needed for authentication, " + FULL_S + " s for enrollment.");
  show("call", "Call heard for " + Math.round(session.HeardSeconds || 0) + " s.");
  const asked = session.EnrollmentRequestDetails;
  const told = asked ? ENROLLMENT[asked.Status] || asked.Status : "";
  show("enrollment", told + (asked && asked.Message ? " " + asked.Message : ""),
    asked ? { COMPLETED: "good", FAILED: "bad" }[asked.Status] || "wait" : "");
  at("enroll").disabled = Boolean(asked) || !session.GeneratedSpeakerId;
  at("opt-out").disabled = !session.GeneratedSpeakerId;
}

function tellEvaluation(told, ended) {
  const voice = told.AuthenticationResult, fraud = told.FraudDetectionResult;
  const verdict = (found, words) => {
    if (!found) return ["Off", ""];
    if (found.Decision === "NOT_ENOUGH_SPEECH" && ended) return ["Inconclusive", "wait"];
    return words[found.Decision] || [found.Decision, ""];
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

function problem(text) {
  at("problem").hidden = !text;
  show("problem", text || "");
}

async function ask(path, method) {
  const answer = await fetch(location.pathname + path, {
    method, headers: { "X-Sonant": "1" }, credentials: "same-origin",
  });
  if (answer.status === 401) {
    location.assign("/sign-in?next=" + encodeURIComponent(location.pathname));
    throw new Error("Signed out.");
  }
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.message);
  for (const one of Object.values(told)) {
    if (one.__type) throw new Error(one.Message || one.message || one.__type);
  }
  return told;
}

async function look() {
  let pause = 1000;
  try {
    const told = await ask("/state", "GET");
    const session = told.DescribeSession.Session;
    tellSession(session);
    tellEvaluation(told.EvaluateSession, session.StreamingStatus === "ENDED");
    problem("");
    if (session.StreamingStatus === "ENDED") pause = 4000;
  } catch (fault) {
    problem(fault.message);
    pause = 5000;
  }
  setTimeout(look, pause);
}

async function act(path) {
  try {
    await ask(path, "POST");
    problem("");
  } catch (fault) {
    problem(fault.message);
  }
}

function session() {
  at("enroll").addEventListener("click", () => { at("enroll").disabled = true; act("/enroll"); });
  at("opt-out").addEventListener("click", () => at("sure").showModal());
  at("sure").addEventListener("close", () => { if (at("sure").returnValue === "yes") act("/opt-out"); });
  look();
}

if (document.body.dataset.page === "session") session();
else signIn();
