/* Forms that send a passkey: data-passkey="create" or "get"; data-options names the JSON with what the server asks for, without it the
   form's own address is asked. Needs the sign-in library's webauthn-json.js. */
"use strict";
(() => {
  const optionsOf = async (form) => {
    const given = form.dataset.options && document.getElementById(form.dataset.options);
    if (given) return JSON.parse(given.textContent);
    const answer = await fetch(form.action, {headers: {Accept: "application/json"}});
    if (!answer.ok) throw new Error(`answer ${answer.status}`);
    return answer.json();
  };

  const create = (options) => {
    const asked = options.creation_options;
    // A passkey: it can be found without an address, and asks for a finger, a face or a PIN.
    Object.assign(asked.publicKey.authenticatorSelection, {residentKey: "required", requireResidentKey: true, userVerification: "required"});
    return window.webauthnJSON.create(asked);
  };

  const complain = (form, error) => {
    const note = form.querySelector("[data-passkey-error]");
    const known = {InvalidStateError: "textKnown", SecurityError: "textUnsupported", NotSupportedError: "textUnsupported"};
    note.textContent = form.dataset[known[error.name]] || form.dataset[window.PublicKeyCredential ? "textFailed" : "textUnsupported"];
    note.hidden = false;
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    if (!form.matches("form[data-passkey]")) return;
    event.preventDefault();
    const buttons = [...form.querySelectorAll("button")];
    buttons.forEach((button) => { button.disabled = true; });
    form.querySelector("[data-passkey-error]").hidden = true;
    try {
      const options = await optionsOf(form);
      const credential = form.dataset.passkey === "create" ? await create(options) : await window.webauthnJSON.get(options.request_options);
      form.elements.credential.value = JSON.stringify(credential);
      form.submit();
    } catch (error) {
      complain(form, error);
      buttons.forEach((button) => { button.disabled = false; });
    }
  });
  // The browser's Back: a page from its memory has the buttons as they were left.
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) document.querySelectorAll("[data-passkey] button").forEach((button) => { button.disabled = false; });
  });
})();
