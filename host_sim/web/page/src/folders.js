// SPDX-License-Identifier: MIT
// Classes as folders of pictures.

// Characters that some system refuses in a file's name, and a dot in front, which hides a folder.
const REFUSED = /[\\/:*?"<>|\u0000-\u001f]|^\./;

// Why a class of this name would be no folder, or null.
export function refusal(label) {
    const found = REFUSED.exec(label);
    return found && `class ${label}: its name becomes that of a folder of pictures, so it must have no ${found[0]}`;
}

// A folder for each label: those of taught files may be anything.
export function folders(labels) {
    const taken = new Set();
    const found = new Map();
    for (const label of labels) {
        const name = label.replace(new RegExp(REFUSED, "g"), "_").replace(/[. ]+$/, "_");
        let unique = name;
        // Some systems do not tell A from a.
        for (let number = 2; taken.has(unique.toLowerCase()); number++) unique = `${name} ${number}`;
        taken.add(unique.toLowerCase());
        found.set(label, unique);
    }
    return found;
}
