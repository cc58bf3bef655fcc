// A request that acts. Gives {answer}, or {error: text} in words for people.

export async function post(ask, path, body = {}) {
  try {
    const response = await ask(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const answer = await response.json();
    if (response.ok) return { answer };
    if (typeof answer?.error === "string") return { error: answer.error };
  } catch {
    // Not reached, or it has answered with something else than JSON: the same to who acts.
  }
  return { error: "the server does not answer" };
}
